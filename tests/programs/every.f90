! SPDX-License-Identifier: Apache-2.0
! every.f90 - a BOINC program in Fortran that calls every procedure that BOINC has for Fortran, and saves its state. The
! work is that of chain.h.
program every
  use, intrinsic :: iso_c_binding, only: c_int, c_long
  implicit none

  interface
    integer(c_int) function usleep(microseconds) bind(c)
      import
      integer(c_int), value :: microseconds
    end function
    integer(c_int) function rename(old, new) bind(c)
      use, intrinsic :: iso_c_binding, only: c_char
      import
      character(kind=c_char), intent(in) :: old(*), new(*)
    end function
  end interface

  integer, parameter :: steps = 100
  integer(8), parameter :: multiplier = 6364136223846793005_8, increment = 1442695040888963407_8
  character(len=64) :: name
  integer :: done, size, alone, due
  integer(8) :: value
  double precision :: fraction, seconds
  logical :: exists, go_machine, go_local

  call boinc_init()
  call boinc_is_standalone(alone)
  call boinc_parse_init_data_file()
  call boincrf("log.txt", name)
  if (name /= "log.txt") error stop "boincrf"
  call boinc_wu_cpu_time(seconds)
  if (seconds <= 0) error stop "boinc_wu_cpu_time"
  call boinc_calling_thread_cpu_time(seconds)
  if (seconds <= 0) error stop "boinc_calling_thread_cpu_time"
  call boinc_get_fraction_done(fraction)
  if (fraction /= -1) error stop "boinc_get_fraction_done"

  done = 0
  size = 0
  value = 1
  inquire(file="state", exist=exists)
  if (exists) then
    open(10, file="state", status="old")
    read(10, *) done, value, size
    close(10)
  end if
  ! The log is a stream, so that it can be cut where the state was saved: what is written there goes over the rest.
  open(11, file=name, access="stream", form="formatted", action="readwrite")
  write(11, "(a)", advance="no", pos=size + 1) ""
  do while (done < steps)
    if (usleep(30000_c_int) /= 0) continue
    inquire(file="/run/vmbridge/host/go", exist=go_machine)
    inquire(file="../../shared/host/go", exist=go_local)
    if (done /= steps / 2 .or. go_machine .or. go_local) then
      value = iand(value * multiplier + increment, huge(value))
      done = done + 1
      write(11, "(i0,1x,i0)") done, value
      flush(11)
    end if
    call boinc_fraction_done(dble(done) / steps)
    call boinc_time_to_checkpoint(due)
    if (due /= 0) then
      call boinc_begin_critical_section()
      inquire(unit=11, pos=size)
      size = size - 1
      open(10, file="state.new", status="replace")
      write(10, *) done, value, size
      close(10)
      if (rename("state.new" // achar(0), "state" // achar(0)) /= 0) error stop "rename"
      call boinc_end_critical_section()
      call boinc_checkpoint_completed()
    end if
  end do
  close(11)
  call boinc_get_fraction_done(fraction)
  if (fraction /= 1) error stop "the fraction done is not 1"
  call boinc_finish(0)
end program
