//! The AMX unit and its instructions.

use crate::digits::{Digits, GROUP};

/// The pairs of digits whose products belong to each power of 256, largest power first.
const LEVELS: [&[[usize; 2]]; 4] = [
    &[[0, 0]],
    &[[0, 1], [1, 0]],
    &[[0, 2], [1, 1], [2, 0]],
    &[[1, 2], [2, 1]],
];

/// Sums of products of digits for 32 rows and columns: for each power of 256, for each half of the rows and half of the
/// columns.
#[repr(C, align(64))]
pub(crate) struct Block([[[[i32; GROUP]; GROUP]; 4]; LEVELS.len()]);

impl Block {
    /// Sums of zero.
    pub(crate) fn new() -> Self {
        Self([[[[0; GROUP]; GROUP]; 4]; LEVELS.len()])
    }

    /// Writes the products of the first `size` rows and columns to `out`, or adds them.
    pub(crate) fn store(
        &self,
        scales: [&[f64]; 2],
        size: [usize; 2],
        out: &mut [f32],
        stride: usize,
        add: bool,
    ) {
        let block = self;
        pulp::Arch::new().dispatch(Store {
            block,
            scales,
            size,
            out,
            stride,
            add,
        });
    }
}

struct Store<'a> {
    block: &'a Block,
    scales: [&'a [f64]; 2],
    size: [usize; 2],
    out: &'a mut [f32],
    stride: usize,
    add: bool,
}

impl pulp::NullaryFnOnce for Store<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let columns = self.scales[1].as_chunks::<GROUP>().0;
        for row in 0..self.size[0] {
            let line = &mut self.out[row * self.stride..][..self.size[1]];
            // The sum below is in units of 2²⁴; the products are in units of 2³².
            let scale = 256.0 * self.scales[0][row];
            for (half, line) in line.chunks_mut(GROUP).enumerate() {
                let [a, b, c, d] = [0, 1, 2, 3]
                    .map(|level| &self.block.0[level][row / GROUP * 2 + half][row % GROUP]);
                let columns = &columns[half];
                let mut values = [0.0_f32; GROUP];
                for k in 0..GROUP {
                    let [a, b, c, d] = [a, b, c, d].map(|it| f64::from(it[k]));
                    let sum = ((a * 256.0 + b) * 256.0 + c) * 256.0 + d;
                    values[k] = (sum * (scale * columns[k])) as f32;
                }
                match (<&mut [f32; GROUP]>::try_from(&mut *line), self.add) {
                    (Ok(line), false) => *line = values,
                    (Ok(line), true) => (0..GROUP).for_each(|k| line[k] += values[k]),
                    (Err(_), false) => line.copy_from_slice(&values[..line.len()]),
                    (Err(_), true) => line.iter_mut().zip(values).for_each(|(l, v)| *l += v),
                }
            }
        }
    }
}

#[cfg(all(
    target_arch = "x86_64",
    target_pointer_width = "64",
    target_os = "linux"
))]
mod amx {
    use super::{Block, Digits, GROUP, LEVELS};
    use crate::digits::{PLACES, Register};
    use std::arch::asm;
    use std::arch::x86_64::__cpuid_count;

    /// Asks the operating system for the unit's registers. Returns whether it grants them and the unit multiplies 8-bit
    /// integers.
    pub(crate) fn request() -> bool {
        /// `ARCH_REQ_XCOMP_PERM`, and the number of the registers' state.
        const REQUEST: [libc::c_long; 2] = [0x1023, 18];
        const TILES_OF_INTEGERS: u32 = 1 << 24 | 1 << 25;
        // SAFETY: every x86-64 processor has this instruction. (A safe call from Rust 1.92 on.)
        #[allow(unused_unsafe)]
        let leaf = |number| unsafe { __cpuid_count(number, 0) };
        let knows = leaf(0).eax >= 7 && leaf(7).edx & TILES_OF_INTEGERS == TILES_OF_INTEGERS;
        // SAFETY: a system call that takes two numbers.
        knows && unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST[0], REQUEST[1]) } == 0
    }

    /// The configuration of the eight registers for this thread: 16 rows of 64 bytes each.
    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        bytes_per_row: [u16; 16],
        rows: [u8; 16],
    }

    /// The AMX unit, in use by this thread until the session is dropped.
    pub(crate) struct Session(std::marker::PhantomData<*const ()>);

    impl Session {
        /// # Panics
        /// Without an AMX unit.
        pub(crate) fn begin() -> Self {
            assert!(crate::is_available(), "an AMX unit");
            let mut configuration = Configuration {
                palette: 1,
                start_row: 0,
                reserved: [0; 14],
                bytes_per_row: [0; 16],
                rows: [0; 16],
            };
            configuration.bytes_per_row[..8].fill(64);
            configuration.rows[..8].fill(GROUP as u8);
            // SAFETY: the unit is there; the instruction reads the 64 bytes of the configuration.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &configuration, options(nostack, readonly)) };
            Self(std::marker::PhantomData)
        }

        /// The products of the 32 rows and 32 columns that begin at `at`. The lowest level is left unchanged if no value stands
        /// out.
        pub(crate) fn products(
            &self,
            block: &mut Block,
            left: &Digits,
            right: &Digits,
            at: [usize; 2],
        ) {
            let groups = [
                left.of_group(at[0]),
                left.of_group(at[0] + GROUP),
                right.of_group(at[1]),
                right.of_group(at[1] + GROUP),
            ];
            let n_steps = left.n_steps();
            assert!(groups.iter().all(|group| group.len() == n_steps * PLACES) && n_steps > 0);
            let is_even = left.is_even() && right.is_even();
            let n_levels = LEVELS.len() - usize::from(is_even);
            for (sums, pairs) in block.0.iter_mut().zip(&LEVELS[..n_levels]) {
                let mut from = [[std::ptr::null::<Register>(); 4]; PLACES];
                for (from, [i, j]) in from.iter_mut().zip(*pairs) {
                    let places = [i, i, j, j];
                    *from = std::array::from_fn(|k| {
                        groups[k][*places[k] * n_steps..][..n_steps].as_ptr()
                    });
                }
                // SAFETY: the loops stay within the registers and the level: there are `n_steps` times `PLACES` registers from
                // the first on, and each level has four blocks of 16 × 16 integers. The unit is configured.
                unsafe {
                    let into = sums.as_mut_ptr().cast::<i32>();
                    asm!(
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "tilezero tmm2",
                        "tilezero tmm3",
                        "2:",
                        "mov {a}, [{from}]",
                        "mov {b}, [{from} + 8]",
                        "mov {c}, [{from} + 16]",
                        "mov {d}, [{from} + 24]",
                        "mov {steps}, {n_steps}",
                        "3:",
                        "tileloadd tmm4, [{a} + {row}]",
                        "tileloadd tmm6, [{c} + {row}]",
                        "tileloadd tmm7, [{d} + {row}]",
                        "tileloadd tmm5, [{b} + {row}]",
                        "tdpbssd tmm0, tmm4, tmm6",
                        "tdpbssd tmm1, tmm4, tmm7",
                        "tdpbssd tmm2, tmm5, tmm6",
                        "tdpbssd tmm3, tmm5, tmm7",
                        "add {a}, {step}",
                        "add {b}, {step}",
                        "add {c}, {step}",
                        "add {d}, {step}",
                        "dec {steps}",
                        "jnz 3b",
                        "add {from}, 32",
                        "dec {pairs}",
                        "jnz 2b",
                        "tilestored [{into} + {row}], tmm0",
                        "tilestored [{into} + {row} + 1024], tmm1",
                        "tilestored [{into} + {row} + 2048], tmm2",
                        "tilestored [{into} + {row} + 3072], tmm3",
                        a = out(reg) _,
                        b = out(reg) _,
                        c = out(reg) _,
                        d = out(reg) _,
                        steps = out(reg) _,
                        from = inout(reg) from.as_ptr() => _,
                        pairs = inout(reg) pairs.len() => _,
                        n_steps = in(reg) n_steps,
                        row = in(reg) 64_usize,
                        into = in(reg) into,
                        step = const size_of::<Register>(),
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    );
                }
            }
        }
    }

    impl Drop for Session {
        fn drop(&mut self) {
            // SAFETY: the unit is there.
            unsafe { asm!("tilerelease", options(nostack, nomem)) };
        }
    }
}

#[cfg(all(
    target_arch = "x86_64",
    target_pointer_width = "64",
    target_os = "linux"
))]
pub(crate) use amx::{Session, request};

#[cfg(not(all(
    target_arch = "x86_64",
    target_pointer_width = "64",
    target_os = "linux"
)))]
mod none {
    use super::{Block, Digits};

    pub(crate) fn request() -> bool {
        false
    }

    pub(crate) struct Session;

    impl Session {
        pub(crate) fn begin() -> Self {
            panic!("an AMX unit")
        }

        pub(crate) fn products(&self, _: &mut Block, _: &Digits, _: &Digits, _: [usize; 2]) {}
    }
}

#[cfg(not(all(
    target_arch = "x86_64",
    target_pointer_width = "64",
    target_os = "linux"
)))]
pub(crate) use none::{Session, request};
