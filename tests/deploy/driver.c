/* Read steps from a file, each a float that is 1 where an episode starts, then noise, then an observation;
   print for each its outputs, the likeliest action and a drawn one. */
#include <stdio.h>
#include "policy.h"

int main(int argc, char **argv) {
    static policy_state state, before;
    static float row[1 + policy_NOISE_SIZE + policy_OBS_SIZE];
    static policy_OBS obs[policy_OBS_SIZE];
    policy_ACT act[policy_ACT_SIZE], drawn[policy_ACT_SIZE];
    FILE *file = argc > 1 ? fopen(argv[1], "rb") : NULL;
    if (file == NULL) return 2;
    if (!(policy_selftest() < 1e-5f)) return 3;
    policy_init(&state);
    while (fread(row, sizeof row, 1, file) == 1) {
        for (int i = 0; i < policy_OBS_SIZE; i++) obs[i] = (policy_OBS)row[1 + policy_NOISE_SIZE + i];
        if (row[0] > 0) policy_init(&state);
        before = state;
        if (policy_sample(&before, obs, row + 1, drawn)) return 4;
        if (policy_step(&state, obs, act)) return 5;
        for (int i = 0; i < policy_OUT_SIZE; i++) printf("%.9g ", (double)policy_outputs(&state)[i]);
        for (int i = 0; i < policy_ACT_SIZE; i++) printf("%.9g ", (double)act[i]);
        for (int i = 0; i < policy_ACT_SIZE; i++) printf("%.9g ", (double)drawn[i]);
        printf("\n");
    }
    fclose(file);
    return 0;
}
