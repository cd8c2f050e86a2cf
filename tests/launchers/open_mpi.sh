#!/usr/bin/env bash
# Run the tests of ranks under Open MPI, with the interpreter $PYTHON (default: python): the distribution's
# package openmpi-bin, and the wheel of mpi4py, which knows MPICH and Open MPI. Without mpirun it does nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
mpirun=$(command -v mpirun.openmpi) || { echo "left out: there is no mpirun.openmpi (package openmpi-bin)"; exit; }
export MPI4PY_MPIABI=openmpi OMP_NUM_THREADS=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none  # containers may forbid what it needs
export OMPI_MCA_odls_base_sigkill_timeout=3  # seconds before ranks get SIGTERM, and then to save
export TRPO_NP_MPIEXEC="$mpirun --allow-run-as-root --oversubscribe --bind-to none"
"${PYTHON:-python}" -m pytest -q -n 0 tests/test_comm.py tests/test_mpi.py "$@"
