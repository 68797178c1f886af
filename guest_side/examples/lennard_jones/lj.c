/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lj.c - molecular dynamics of a Lennard-Jones fluid, as a BOINC program.
 *
 * N particles in a periodic box attract and repel each other in pairs with
 * the potential 4 (r^-12 - r^-6), cut off and shifted at r = 2.5; velocity
 * Verlet moves them at constant energy. Reduced units throughout. What BOINC
 * programs do is all here: files found by boinc_resolve_filename, progress,
 * an honest count of operations, checkpoints, and a resume from them that
 * gives the very same bits as a run without a break.
 */
#include <boinc_api.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARTICLES_MAX 4096
#define CUTOFF 2.5
#define CUTOFF2 (CUTOFF * CUTOFF)
#define SPEED 1.0954451150103321 /* the square root of 12 T, with T = 0.1 */
#define LINES 20 /* in energy.txt */

/* Floating-point operations, counted in the code below. */
#define FLOPS_PER_PAIR 11 /* distance: 3 subtractions, 3 comparisons, 5 for the square */
#define FLOPS_PER_NEIGHBOUR 24 /* force and energy of a pair inside the cutoff */
#define FLOPS_PER_PARTICLE 24 /* two half kicks, one drift, box, kinetic energy */

struct vector {
    double x, y, z;
};

struct input {
    long steps;
    long particles;
    double density;
    double dt;
};

/* Everything that a resume needs: written to the checkpoint as it is. */
struct state {
    struct input input;
    long step;
    double flops;
    double first_total;
    double last_total;
    struct vector position[PARTICLES_MAX];
    struct vector velocity[PARTICLES_MAX];
    long energy_size; /* of energy.txt at that moment */
};

static struct state state;
static struct vector force[PARTICLES_MAX];
static double box;
static double shift; /* the potential at the cutoff */

static void fail(const char *what, const char *name)
{
    fprintf(stderr, "lj: %s %s\n", what, name);
    boinc_finish(1);
}

static FILE *open_file(const char *logical, const char *mode)
{
    char physical[4096];

    if (boinc_resolve_filename(logical, physical, sizeof physical) != 0)
        fail("name too long:", logical);
    return fopen(physical, mode);
}

/* ------------------------------------------------------------- input ---- */

static bool take_setting(struct input *input, const char *name, double value)
{
    if (strcmp(name, "steps") == 0)
        input->steps = (long)value;
    else if (strcmp(name, "particles") == 0)
        input->particles = (long)value;
    else if (strcmp(name, "density") == 0)
        input->density = value;
    else if (strcmp(name, "dt") == 0)
        input->dt = value;
    else
        return false;
    return true;
}

static void read_input(struct input *input)
{
    FILE *file = open_file("lj.in", "r");
    char name[32];
    double value;

    if (file == NULL)
        fail("cannot open", "lj.in");
    while (fscanf(file, "%31s %lf", name, &value) == 2)
        if (!take_setting(input, name, value))
            fail("unknown setting in lj.in:", name);
    fclose(file);
    if (input->steps < 1 || input->particles < 2 || input->particles > PARTICLES_MAX
        || !(input->density > 0) || !(input->dt > 0))
        fail("impossible settings in", "lj.in");
}

/* ----------------------------------------------------- initial state ---- */

/* By Newton's method, with what every machine rounds alike: no pow, no cbrt. */
static double cube_root(double value)
{
    double root = value > 1 ? value : 1;
    int i;

    for (i = 0; i < 200; i++)
        root -= (root * root * root - value) / (3 * root * root);
    return root;
}

/* A generator of our own (splitmix64): the same start on every system. */
static double random_unit(uint64_t *seed)
{
    uint64_t z = (*seed += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

static void place_on_lattice(long n)
{
    long side = 1, i;
    double gap;

    while (side * side * side < n)
        side++;
    gap = box / (double)side;
    for (i = 0; i < n; i++)
        state.position[i] = (struct vector){
            ((double)(i % side) + 0.5) * gap,
            ((double)(i / side % side) + 0.5) * gap,
            ((double)(i / side / side) + 0.5) * gap};
}

/* Random velocities without a drift of the whole; cold, so that the lattice melts by itself. */
static void give_velocities(long n)
{
    struct vector mean = {0, 0, 0};
    uint64_t seed = 20261120;
    long i;

    for (i = 0; i < n; i++) {
        struct vector *v = &state.velocity[i];
        v->x = (random_unit(&seed) - 0.5) * SPEED;
        v->y = (random_unit(&seed) - 0.5) * SPEED;
        v->z = (random_unit(&seed) - 0.5) * SPEED;
        mean.x += v->x / (double)n;
        mean.y += v->y / (double)n;
        mean.z += v->z / (double)n;
    }
    for (i = 0; i < n; i++) {
        state.velocity[i].x -= mean.x;
        state.velocity[i].y -= mean.y;
        state.velocity[i].z -= mean.z;
    }
}

/* ----------------------------------------------------------- physics ---- */

/* The distance to the nearest image along one axis. */
static inline double nearest(double d)
{
    if (d > 0.5 * box)
        return d - box;
    if (d < -0.5 * box)
        return d + box;
    return d;
}

static inline double wrap(double x)
{
    if (x < 0)
        return x + box;
    if (x >= box)
        return x - box;
    return x;
}

/* Add the force between two particles at distance r; returns their energy. */
static inline double pair_force(struct vector *on_i, struct vector *on_j, struct vector d,
                                double r2)
{
    double inverse2 = 1 / r2, inverse6 = inverse2 * inverse2 * inverse2;
    double strength = 48 * inverse6 * (inverse6 - 0.5) * inverse2;

    on_i->x += strength * d.x;
    on_i->y += strength * d.y;
    on_i->z += strength * d.z;
    on_j->x -= strength * d.x;
    on_j->y -= strength * d.y;
    on_j->z -= strength * d.z;
    return 4 * inverse6 * (inverse6 - 1) - shift;
}

/* Compute all forces; returns the potential energy. */
static double compute_forces(long n)
{
    double potential = 0;
    long i, j, neighbours = 0;

    memset(force, 0, sizeof force);
    for (i = 0; i < n; i++)
        for (j = i + 1; j < n; j++) {
            struct vector *a = &state.position[i], *b = &state.position[j];
            struct vector d = {nearest(a->x - b->x), nearest(a->y - b->y),
                               nearest(a->z - b->z)};
            double r2 = d.x * d.x + d.y * d.y + d.z * d.z;
            if (r2 < CUTOFF2) {
                potential += pair_force(&force[i], &force[j], d, r2);
                neighbours++;
            }
        }
    state.flops += (double)n * (double)(n - 1) / 2 * FLOPS_PER_PAIR
        + (double)neighbours * FLOPS_PER_NEIGHBOUR;
    return potential;
}

static void kick(long n, double dt)
{
    long i;

    for (i = 0; i < n; i++) {
        state.velocity[i].x += force[i].x * dt;
        state.velocity[i].y += force[i].y * dt;
        state.velocity[i].z += force[i].z * dt;
    }
}

static void drift(long n, double dt)
{
    long i;

    for (i = 0; i < n; i++) {
        struct vector *p = &state.position[i], *v = &state.velocity[i];
        *p = (struct vector){wrap(p->x + v->x * dt), wrap(p->y + v->y * dt),
                             wrap(p->z + v->z * dt)};
    }
}

static double kinetic_energy(long n)
{
    double twice = 0;
    long i;

    for (i = 0; i < n; i++) {
        struct vector *v = &state.velocity[i];
        twice += v->x * v->x + v->y * v->y + v->z * v->z;
    }
    state.flops += (double)n * FLOPS_PER_PARTICLE;
    return twice / 2;
}

/* ------------------------------------------------------------ output ---- */

static void write_energy(FILE *out, double kinetic, double potential)
{
    state.last_total = kinetic + potential;
    if (state.step == 0)
        state.first_total = state.last_total;
    fprintf(out, "%ld %.10f %.10f %.10f\n", state.step, kinetic, potential, state.last_total);
}

static void write_drift(FILE *out)
{
    double change = (state.last_total - state.first_total) / state.first_total;

    fprintf(out, "drift %.10f\n", change < 0 ? -change : change);
}

/* -------------------------------------------------------- checkpoint ---- */

static void write_checkpoint(FILE *out)
{
    FILE *file;
    bool good;

    fflush(out);
    state.energy_size = ftell(out);
    file = fopen("lj.checkpoint.new", "wb");
    if (file == NULL)
        return;
    good = fwrite(&state, sizeof state, 1, file) == 1;
    good = fclose(file) == 0 && good;
    if (good && rename("lj.checkpoint.new", "lj.checkpoint") == 0)
        boinc_checkpoint_completed();
}

/* Take up the checkpoint of this very task; false if there is none. */
static bool read_checkpoint(const struct input *input)
{
    FILE *file = fopen("lj.checkpoint", "rb");
    bool good;

    if (file == NULL)
        return false;
    good = fread(&state, sizeof state, 1, file) == 1
        && state.input.steps == input->steps && state.input.particles == input->particles
        && state.input.density == input->density && state.input.dt == input->dt;
    fclose(file);
    return good;
}

/* --------------------------------------------------------------- run ---- */

static void begin(const struct input *input)
{
    memset(&state, 0, sizeof state);
    state.input = *input;
    place_on_lattice(input->particles);
    give_velocities(input->particles);
}

/* Open energy.txt; after a resume it goes on where the checkpoint left it. */
static FILE *open_energy(bool resumed)
{
    FILE *out = open_file("energy.txt", resumed ? "r+" : "w");

    if (out == NULL)
        fail("cannot open", "energy.txt");
    if (resumed)
        fseek(out, state.energy_size, SEEK_SET);
    return out;
}

static void step_once(FILE *out)
{
    long n = state.input.particles, every = state.input.steps / LINES;
    double dt = state.input.dt, potential, kinetic;

    kick(n, dt / 2);
    drift(n, dt);
    potential = compute_forces(n);
    kick(n, dt / 2);
    kinetic = kinetic_energy(n);
    state.step++;
    if (every == 0 || state.step % every == 0)
        write_energy(out, kinetic, potential);
}

static void report(void)
{
    boinc_fraction_done((double)state.step / (double)state.input.steps);
    boinc_ops_cumulative(state.flops, 0);
}

static void run(FILE *out, bool resumed)
{
    double potential = compute_forces(state.input.particles);

    if (!resumed)
        write_energy(out, kinetic_energy(state.input.particles), potential);
    while (state.step < state.input.steps) {
        step_once(out);
        report();
        if (boinc_time_to_checkpoint())
            write_checkpoint(out);
    }
    write_drift(out);
}

int main(void)
{
    struct input input = {2000, 343, 0.8, 0.002};
    bool resumed;
    double inverse6;
    FILE *out;

    boinc_init();
    read_input(&input);
    box = cube_root((double)input.particles / input.density);
    inverse6 = 1 / (CUTOFF2 * CUTOFF2 * CUTOFF2);
    shift = 4 * inverse6 * (inverse6 - 1);
    resumed = read_checkpoint(&input);
    if (!resumed)
        begin(&input);
    out = open_energy(resumed);
    run(out, resumed);
    if (fclose(out) != 0)
        fail("cannot write", "energy.txt");
    return boinc_finish(0);
}
