// SPDX-License-Identifier: Apache-2.0
// side_by_side - call every public function of BOINC's library, in every state that a program may be in.
//
//   side_by_side SCENARIO FOLDER
//
// What comes back goes into FOLDER/said, a line `NAME VALUE` each; `step NAME` there means that the client shall do
// something, and that FOLDER/NAME is waited for. Compiled once with BOINC's own headers; which library it runs with is
// the caller's affair. What the real library crashes on is not called.
#include "boinc_api.h"
#include "diagnostics.h"
#include "filesys.h"
#include "graphics2.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

static FILE *said;
static std::string folder;

static void say(const char *name, double value)
{
    fprintf(said, "%s %.6g\n", name, value);
}

static void say(const char *name, const std::string &text)
{
    fprintf(said, "%s %s\n", name, text.c_str());
}

#define SAY(call) say(state(#call), call)

static std::string prefix;

static const char *state(const char *call)
{
    static std::string name;

    name = prefix + call;
    std::replace(name.begin(), name.end(), ' ', '_');
    return name.c_str();
}

static void await(const char *name)
{
    std::string file = folder + "/" + name;

    say("step", name);
    while (access(file.c_str(), F_OK) != 0)
        usleep(10000);
}

static std::string content(const std::string &path)
{
    char text[256] = "";
    FILE *file = fopen(path.c_str(), "r");

    if (!file)
        return "none";
    size_t got = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    for (size_t i = 0; i < got; i++)
        if (text[i] == '\n')
            text[i] = '|';
    return text;
}

static void put(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    fputs(text, file);
    fclose(file);
}

// ---------------------------------------------------------------- all that only asks

// Of a text its form: digits are 9s.
static std::string form(std::string text)
{
    for (size_t i = 0; i < text.size(); i++)
        if (isdigit((unsigned char)text[i]))
            text[i] = '9';
    while (text.find("99") != std::string::npos)
        text.replace(text.find("99"), 2, "9");
    return text;
}

static std::string prefix_of(int size)
{
    char buffer[64];

    memset(buffer, 'x', sizeof buffer);
    buffer[sizeof buffer - 1] = 0;
    return boinc_msg_prefix(buffer, size) == buffer ? form(buffer) : "another buffer";
}

static std::string status_text()
{
    BOINC_STATUS s;
    char text[160];

    memset(&s, 0x55, sizeof s);
    int error = boinc_get_status(&s);
    snprintf(text, sizeof text, "%d: no_heartbeat=%d suspended=%d quit=%d reread=%d abort=%d network_suspended=%d", error,
             s.no_heartbeat, s.suspended, s.quit_request, s.reread_init_data_file, s.abort_request,
             s.network_suspended);
    return text;
}

// Times are never the same twice: whether they make sense.
static std::string sensible(double seconds)
{
    return seconds == 0 ? "zero" : seconds > 0 && seconds < 600 ? "some" : "nonsense";
}

static std::string wu_cpu_time()
{
    double seconds = -1;

    return boinc_wu_cpu_time(seconds) ? "error" : sensible(seconds);
}

static std::string resolved(const char *name, int size)
{
    char physical[256];
    char text[300];

    memset(physical, 'x', sizeof physical);
    physical[sizeof physical - 1] = 0;
    int error = boinc_resolve_filename(name, physical, size);
    snprintf(text, sizeof text, "%d %s", error, physical);
    return text;
}

static std::string resolved_string(const char *name)
{
    std::string physical("before");
    int error = boinc_resolve_filename_s(name, physical);

    return (error ? "error " : "0 ") + physical;
}

static std::string trickle_down()
{
    char name[64] = "untouched";

    return boinc_receive_trickle_down(name, sizeof name) ? form(name) : std::string("0 ") + name;
}

static int upload(const char *name)
{
    std::string text(name);

    return boinc_upload_file(text);
}

static int uploaded(const char *name)
{
    std::string text(name);

    return boinc_upload_status(text);
}

static int trickle(std::string variety, std::string text)
{
    return boinc_send_trickle_up(&variety[0], &text[0]);
}

static void init_data(const char *whose, APP_INIT_DATA &d)
{
#define TEXT(member) say(state((std::string(whose) + "." #member).c_str()), d.member[0] ? d.member : "-")
#define NUMBER(member) say(state((std::string(whose) + "." #member).c_str()), d.member)
    TEXT(app_name); TEXT(wu_name); TEXT(result_name); TEXT(user_name); TEXT(team_name); TEXT(authenticator);
    TEXT(gpu_type);
    NUMBER(major_version); NUMBER(minor_version); NUMBER(release); NUMBER(app_version); NUMBER(userid); NUMBER(teamid);
    NUMBER(hostid); NUMBER(slot); NUMBER(gpu_device_num); NUMBER(gpu_opencl_dev_index); NUMBER(gpu_usage);
    NUMBER(rsc_fpops_est); NUMBER(rsc_fpops_bound); NUMBER(rsc_memory_bound); NUMBER(rsc_disk_bound);
    NUMBER(wu_cpu_time); NUMBER(starting_elapsed_time); NUMBER(resource_share_fraction); NUMBER(checkpoint_period);
    NUMBER(fraction_done_start); NUMBER(fraction_done_end); NUMBER(computation_deadline);
    NUMBER(host_info.p_fpops); NUMBER(host_info.p_iops); NUMBER(user_total_credit); NUMBER(shmem_seg_name);
    say(state("ncpus"), d.ncpus >= 1 ? "some" : "none");
    say(state("host_info.p_ncpus"), d.host_info.p_ncpus >= 1 ? "some" : "none");
    say(state("host_info.m_nbytes"), d.host_info.m_nbytes > 1e6 ? "some" : "none");
    say(state("client_pid"), d.client_pid ? "some" : "none");
    say(state("project_preferences"), d.project_preferences ? "some" : "none");
    say(state("app_files"), d.app_files.size());
    say(state("project_dir"), d.project_dir[0] ? access(d.project_dir, R_OK) ? "not there" : "there" : "-");
    say(state("boinc_dir"), d.boinc_dir[0] ? access(d.boinc_dir, R_OK) ? "not there" : "there" : "-");
}

static void ask_all()
{
    APP_INIT_DATA data, pointed;

    SAY(boinc_is_standalone());
    SAY(boinc_get_fraction_done());
    say(state("boinc_get_status()"), status_text());
    say(state("boinc_status"), boinc_status.suspended + boinc_status.quit_request + boinc_status.abort_request);
    say(state("boinc_elapsed_time()"), boinc_elapsed_time() >= 0 && boinc_elapsed_time() < 600 ? "sensible" : "not");
    say(state("boinc_worker_thread_cpu_time()"), boinc_worker_thread_cpu_time() < 60 ? "sensible" : "not");
    say(state("boinc_wu_cpu_time()"), wu_cpu_time() == "nonsense" ? "not" : "sensible");
    SAY(prefix_of(64));
    SAY(prefix_of(5));
    SAY(prefix_of(1));
    SAY(resolved("plain", 256));
    SAY(resolved("absent", 256));
    SAY(resolved("absent", 4));
    SAY(resolved("absent", 1));
    SAY(resolved(NULL, 256));
    SAY(resolved_string("plain"));
    SAY(content("link") == content("plain") ? content("link") : "a link");
    SAY(uploaded("never"));
    SAY(trickle_down());
    SAY(boinc_get_init_data(data));
    init_data("data", data);
    SAY(boinc_get_init_data_p(&pointed));
    SAY(strcmp(pointed.wu_name, data.wu_name));
    SAY(diagnostics_is_initialized());
    SAY(boinc_graphics_get_shmem("nobody") == NULL);
    SAY(boinc_parse_init_data_file());
}

// ---------------------------------------------------------------- all that does something

static volatile int ticks;
static volatile bool ticked_on_main;
static pthread_t main_thread;

static void tick()
{
    ticked_on_main = pthread_equal(pthread_self(), main_thread);
    ticks = ticks + 1;
}

static void graphics()
{
    double a = -1, b = -1, c = -1, d = -1;
    BOINC_STATUS status;
    char *memory = (char *)boinc_graphics_make_shmem("picture", 5000);

    say(state("make_shmem"), memory != NULL);
    if (memory) {
        say(state("make_shmem zeros"), memory[0] + memory[4999]);
        memory[4999] = 'x';
        char *found = (char *)boinc_graphics_get_shmem("picture");
        say(state("get_shmem"), found && found[4999] == 'x');
        char *again = (char *)boinc_graphics_make_shmem("picture", 100);
        say(state("make_shmem again"), again != NULL);
    }
    SAY(boinc_write_graphics_status(1, 2, 0.5));
    SAY(boinc_parse_graphics_status(&a, &b, &c, &d, &status));
    boinc_web_graphics_url((char *)"http://127.0.0.1/");
    std::string longest(300, 'u');
    boinc_web_graphics_url(&longest[0]);
    boinc_remote_desktop_addr((char *)"127.0.0.1:1");
}

static void network()
{
    SAY(boinc_network_poll());
    boinc_need_network();
    say(state("boinc_network_poll() when it is needed"), boinc_network_poll());
    boinc_network_done();
    boinc_network_usage(1e3, 2e3);
    boinc_network_usage(0, 0);
}

static void sections(const char *where)
{
    boinc_end_critical_section(); // one too many
    boinc_begin_critical_section();
    boinc_begin_critical_section();
    boinc_end_critical_section();
    boinc_end_critical_section();
    say(state(where), "done");
}

static void fractions()
{
    const double values[] = {0, 0.25, 1, 1.5, -3, 1e300, INFINITY, NAN, 0.125};

    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char name[64];
        snprintf(name, sizeof name, "fraction_done %g", values[i]);
        say(state(name), boinc_fraction_done(values[i]));
        say(state((std::string(name) + " read").c_str()), boinc_get_fraction_done());
    }
}

static void statuses()
{
    SAY(boinc_report_app_status(1, 0, 0.25));
    say(state("boinc_get_fraction_done() after that"), boinc_get_fraction_done());
}

static void odd_trickles()
{
    SAY(trickle("ordinary", "text"));
    SAY(trickle("empty", ""));
    SAY(trickle("", "text"));
    SAY(trickle(std::string(300, 'v'), "text"));
    SAY(trickle("a<b", "text"));
    SAY(trickle("long_line", std::string(2000, 't')));
    SAY(trickle("control", "a\033b"));
    SAY(trickle("much", std::string(70000, '\n')));
    unlink("trickle_up.xml");
}

static void uploads()
{
    put("early.txt", "early\n");
    SAY(upload("early.txt"));
    say(state("upload again"), upload("early.txt"));
    SAY(upload("absent.txt"));
    SAY(upload("../early.txt"));
    SAY(upload(""));
    SAY(uploaded("early.txt"));
}

static void *elsewhere(void *)
{
    sections("sections elsewhere");
    say(state("fraction elsewhere"), boinc_fraction_done(0.75));
    say(state("read elsewhere"), boinc_get_fraction_done());
    return NULL;
}

static void do_all()
{
    pthread_t thread;

    SAY(boinc_set_min_checkpoint_period(0));
    SAY(boinc_set_min_checkpoint_period(-1));
    SAY(boinc_time_to_checkpoint());
    SAY(boinc_checkpoint_completed());
    sections("sections");
    fractions();
    statuses();
    network();
    graphics();
    pthread_create(&thread, NULL, elsewhere, NULL);
    pthread_join(thread, NULL);
    SAY(boinc_set_min_checkpoint_period(3600));
    say(state("boinc_time_to_checkpoint() after that"), boinc_time_to_checkpoint());
    SAY(boinc_init_diagnostics(BOINC_DIAG_DEFAULTS));
    SAY(boinc_init_diagnostics(BOINC_DIAG_REDIRECTSTDERR | BOINC_DIAG_REDIRECTSTDERROVERWRITE));
}

// ---------------------------------------------------------------- scenarios

static int nobody_around()
{
    prefix = "before:";
    ask_all();
    SAY(boinc_time_to_checkpoint());
    SAY(boinc_fraction_done(0.5));
    sections("sections");
    SAY(boinc_set_min_checkpoint_period(0));
    boinc_register_timer_callback(tick);
    prefix = "alone:";
    SAY(boinc_init());
    ask_all();
    do_all();
    odd_trickles();
    uploads();
    while (ticks < 2)
        usleep(10000);
    SAY(ticked_on_main);
    boinc_register_timer_callback(NULL);
    say(state("boinc_elapsed_time() moves"), boinc_elapsed_time() > 1);
    say(state("boinc_worker_thread_cpu_time() moves"), boinc_worker_thread_cpu_time() > 0);
    return boinc_finish(0);
}

static int initialized_twice()
{
    BOINC_OPTIONS options;

    prefix = "twice:";
    SAY(boinc_init_diagnostics(BOINC_DIAG_DUMPCALLSTACKENABLED | BOINC_DIAG_TRACETOSTDERR));
    boinc_options_defaults(options);
    SAY(boinc_init_options(&options));
    boinc_fraction_done(0.5);
    options.send_status_msgs = 0;
    say(state("boinc_init_options again"), boinc_init_options(&options));
    SAY(boinc_get_fraction_done());
    return boinc_finish(5);
}

static int in_parallel()
{
    prefix = "parallel:";
    SAY(boinc_init_parallel());
    SAY(boinc_fraction_done(0.5));
    SAY(boinc_get_fraction_done());
    return boinc_finish(0);
}

// Without a timer thread until it is asked for, by the names that only wrappers know.
static int general()
{
    BOINC_OPTIONS options;

    prefix = "general:";
    boinc_options_defaults(options);
    boinc_disable_timer_thread = true;
    SAY(boinc_init_options_general(options));
    boinc_disable_timer_thread = false;
    SAY(start_timer_thread());
    boinc_register_timer_callback(tick);
    while (ticks < 1)
        usleep(10000);
    return boinc_finish_message(0, "so long", false);
}

// Each option off, one after the other, each in a child of its own folder, for the options that a client is not needed for.
static int with_option(const char *which)
{
    BOINC_OPTIONS options;

    prefix = std::string(which) + "=0:";
    boinc_options_defaults(options);
    int *members = (int *)&options;
    const char *names[] = {"normal_thread_priority", "main_program", "check_heartbeat", "handle_process_control",
                           "send_status_msgs", "direct_process_action", "multi_thread", "multi_process"};
    for (int i = 0; i < 8; i++)
        if (!strcmp(names[i], which))
            members[i] = !members[i];
    SAY(boinc_init_options(&options));
    SAY(boinc_fraction_done(0.5));
    SAY(boinc_checkpoint_completed());
    sections("sections");
    say(state("boinc_get_status()"), status_text());
    return boinc_finish(0);
}

static int forked()
{
    int status = 0;

    prefix = "fork:";
    SAY(boinc_init());
    boinc_fraction_done(0.5);
    fflush(said);
    pid_t child = fork();
    if (child == 0) {
        prefix = "child:";
        SAY(boinc_is_standalone());
        SAY(boinc_get_fraction_done());
        do_all();
        say(state("trickle of a child"), trickle("child", "text"));
        unlink("trickle_up.xml");
        fflush(said);
        _exit(9);
    }
    waitpid(child, &status, 0);
    prefix = "fork:after_";
    say(state("child's status"), WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    SAY(boinc_get_fraction_done());
    child = fork();
    if (child == 0)
        boinc_finish(3);
    waitpid(child, &status, 0);
    say(state("finished child's status"), WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    say(state("finish file of a child"), access("boinc_finish_called", F_OK) == 0 ? "there" : "none");
    return boinc_finish(0);
}

// Without an earlier word of diagnostics.
static int crashes()
{
    signal(SIGPIPE, SIG_IGN); // a handler that is there is left alone
    boinc_init();
    prefix = "crash:";
    struct sigaction now;
    const int numbers[] = {SIGILL, SIGABRT, SIGBUS, SIGSEGV, SIGSYS, SIGPIPE, SIGFPE};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char name[32];
        snprintf(name, sizeof name, "signal %d", numbers[i]);
        sigaction(numbers[i], NULL, &now);
        say(state(name), now.sa_handler == SIG_DFL ? "default" : now.sa_handler == SIG_IGN ? "ignored" : "handled");
    }
    SAY(diagnostics_is_initialized());
    SAY(boinc_init_diagnostics(BOINC_DIAG_DEFAULTS));
    fprintf(stderr, "last words\n");
    fflush(said);
    raise(SIGSEGV);
    return 0;
}

// ---------------------------------------------------------------- with a client

static void save()
{
    put("state", "saved\n");
    say("checkpoint", boinc_checkpoint_completed());
}

// Asked again, the real one counts another section that nobody ends.
static void until_due()
{
    while (!boinc_time_to_checkpoint())
        usleep(10000);
    say("due", 1);
}

static void compute_while(const char *name)
{
    std::string file = folder + "/" + name, counts = folder + "/count";
    FILE *out = fopen(counts.c_str(), "w");

    say("step", name);
    while (access(file.c_str(), F_OK) != 0) {
        fprintf(out, "x");
        fflush(out);
        for (volatile int i = 0; i < 3000000; i++)
            ;
    }
    fclose(out);
}

static int whole_life()
{
    prefix = "client:";
    SAY(boinc_init());
    ask_all();
    say("input", content([] { std::string name; boinc_resolve_filename_s("in.txt", name); return name; }()));
    graphics();
    network();
    say("fraction", boinc_fraction_done(0.25));
    await("fraction_seen");
    boinc_register_timer_callback(tick);
    until_due();
    boinc_set_min_checkpoint_period(3600);
    save();
    await("checkpoint_seen");
    say("not_due", boinc_time_to_checkpoint());
    say("sent_1", trickle("first", "<a>1</a>\nline two\n"));
    await("trickle_1_taken");
    say("sent_2", trickle("second", ""));
    await("trickle_2_taken");
    put("early.txt", "early\n");
    say("asked_for", upload("early.txt"));
    say("not_answered", uploaded("early.txt"));
    await("upload_answered");
    while (uploaded("early.txt") == -161)
        usleep(10000);
    say("answered", uploaded("early.txt"));
    trickle_down(); // from now on the real one listens
    await("trickle_down_sent");
    std::string down;
    while ((down = trickle_down())[0] == '0')
        usleep(10000);
    say("trickle_down", down);
    char name[64] = "";
    boinc_receive_trickle_down(name, sizeof name);
    say("its_text", content(name));
    unlink(name);
    say("no_other", trickle_down());
    await("reread_sent");
    for (int i = 0; i < 100 && !boinc_status.reread_init_data_file; i++)
        usleep(10000);
    say("status", status_text());
    compute_while("resumed");
    say("callback", ticks > 0 && !ticked_on_main);
    // Some libraries say this by themselves a second later.
    say("reported", boinc_fraction_done(0.5));
    await("second_fraction_seen");
    put("out.txt", "result\n");
    return boinc_finish(0);
}

static int ends(const char *how)
{
    prefix = std::string(how) + ":";
    boinc_init();
    boinc_fraction_done(0.5);
    await("fraction_seen");
    put("out.txt", "result\n");
    if (!strcmp(how, "fails"))
        boinc_finish(7);
    if (!strcmp(how, "message"))
        boinc_finish_message(0, "all is well", true);
    if (!strcmp(how, "complaint"))
        boinc_finish_message(9, "no such molecule", false);
    save();
    await("checkpoint_seen");
    SAY(boinc_temporary_exit(3600, "no licence", false));
    boinc_finish(0);
    return 0;
}

// The order comes while it is in a section, and after it.
static int obeys(bool inside)
{
    boinc_init();
    boinc_fraction_done(0.5);
    if (inside)
        boinc_begin_critical_section();
    await("fraction_seen");
    if (inside) {
        say("step", "asked");
        while (!boinc_status.quit_request && !boinc_status.abort_request)
            usleep(10000);
        say("saw", boinc_status.quit_request ? "quit" : "abort");
        boinc_end_critical_section();
    } else {
        say("step", "asked");
    }
    for (int i = 0; i < 600; i++)
        usleep(100000);
    say("still_here", 1);
    return boinc_finish(3);
}

static int is_only_asked()
{
    BOINC_OPTIONS options;

    boinc_options_defaults(options);
    options.direct_process_action = 0;
    boinc_init_options(&options);
    boinc_fraction_done(0.5);
    await("fraction_seen");
    say("step", "asked");
    while (!boinc_status.quit_request)
        usleep(10000);
    say("saw", "quit");
    exit(0);
}

int main(int argc, char **argv)
{
    std::string scenario(argc > 1 ? argv[1] : "");

    folder = argc > 2 ? argv[2] : ".";
    said = fopen((folder + "/said").c_str(), "a");
    setvbuf(said, NULL, _IOLBF, 0);
    main_thread = pthread_self();
    put("plain", "plain data\n");
    if (scenario == "nobody") return nobody_around();
    if (scenario == "twice") return initialized_twice();
    if (scenario == "parallel") return in_parallel();
    if (scenario == "general") return general();
    if (scenario == "fork") return forked();
    if (scenario == "crash") return crashes();
    if (scenario == "life") return whole_life();
    if (scenario == "quit" || scenario == "abort") return obeys(false);
    if (scenario == "quit_inside") return obeys(true);
    if (scenario == "quit_asked") return is_only_asked();
    if (scenario.find("option_") == 0) return with_option(scenario.c_str() + 7);
    return ends(scenario.c_str());
}
