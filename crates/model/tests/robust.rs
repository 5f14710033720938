//! The robust test of score tests on masks of many and few samples against its definition on dense matrices.

mod memory_kernel;

use faer::Mat;
use memory_kernel::{MemoryKernel, normal};
