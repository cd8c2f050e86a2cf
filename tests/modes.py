"""Which tests see a difference between compiled kernels and plain NumPy."""

# folders and files whose tests reach a kernel or its plain twin; test_modes.py finds one that is missing
BOTH_MODES = ("kernels", "ops", "policies", "test_autodiff.py", "test_fisher.py", "test_learning.py",
              "test_nn.py", "test_optim.py", "test_precision.py", "test_reuse.py", "test_rollout.py",
              "test_snapshot.py", "test_trpo.py", "test_update.py", "test_whole.py", "test_wide_spaces.py")
KERNEL_FILES = ("lstm", "mlp", "image", "act", "scalar")  # files of kernels/, the longest to compile first
