//! What the CPU and the system offer. Each function says what is missing, or `None`.

mod aarch64;

pub(crate) use aarch64::{dotprod, i8mm, neon};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{TileConfig, amx, avx_vnni, avx2, avx512, avx512_vnni};

#[cfg(not(target_arch = "x86_64"))]
mod other {
    fn not_x86() -> Option<String> {
        Some("not an x86-64 CPU".to_owned())
    }
    pub fn avx2() -> Option<String> {
        not_x86()
    }
    pub fn avx_vnni() -> Option<String> {
        not_x86()
    }
    pub fn avx512() -> Option<String> {
        not_x86()
    }
    pub fn avx512_vnni() -> Option<String> {
        not_x86()
    }
    pub fn amx() -> Option<String> {
        not_x86()
    }
}
#[cfg(not(target_arch = "x86_64"))]
pub(crate) use other::{amx, avx_vnni, avx2, avx512, avx512_vnni};

#[cfg(target_arch = "x86_64")]
mod x86 {
    fn first_missing(features: &[(&str, bool)]) -> Option<String> {
        let (name, _) = features.iter().find(|(_, there)| !there)?;
        Some(format!("the CPU has no {name}"))
    }

    /// What code for AVX2 needs.
    pub fn avx2() -> Option<String> {
        first_missing(&[
            ("AVX2", is_x86_feature_detected!("avx2")),
            ("BMI2", is_x86_feature_detected!("bmi2")),
            ("FMA", is_x86_feature_detected!("fma")),
            ("F16C", is_x86_feature_detected!("f16c")),
        ])
    }

    /// What [`avx2`] needs, and the integer dot products of AVX-VNNI.
    pub fn avx_vnni() -> Option<String> {
        avx2().or_else(|| first_missing(&[("AVX-VNNI", is_x86_feature_detected!("avxvnni"))]))
    }

    /// What code for AVX-512 without integer dot products needs.
    pub fn avx512() -> Option<String> {
        avx2().or_else(|| {
            first_missing(&[
                ("AVX512F", is_x86_feature_detected!("avx512f")),
                ("AVX512BW", is_x86_feature_detected!("avx512bw")),
                ("AVX512DQ", is_x86_feature_detected!("avx512dq")),
                ("AVX512VL", is_x86_feature_detected!("avx512vl")),
            ])
        })
    }

    /// What [`avx512`] needs, and VNNI.
    pub fn avx512_vnni() -> Option<String> {
        avx512()
            .or_else(|| first_missing(&[("AVX512_VNNI", is_x86_feature_detected!("avx512vnni"))]))
    }

    /// Operand of `ldtilecfg`: palette 1, all eight tiles with 16 rows of 64 bytes (Intel SDM vol. 1,
    /// 18.3). Palette 1 is fixed by the architecture; CPUID leaf 0x1D, which would describe it, reads
    /// zero on some virtual machines.
    #[repr(C, align(64))]
    pub(crate) struct TileConfig([u8; 64]);

    impl TileConfig {
        pub const FULL: TileConfig = {
            let mut bytes = [0; 64];
            bytes[0] = 1;
            let mut tile = 0;
            while tile < 8 {
                bytes[16 + 2 * tile] = 64;
                bytes[48 + tile] = 16;
                tile += 1;
            }
            TileConfig(bytes)
        };
    }

    #[cfg(not(target_os = "linux"))]
    pub fn amx() -> Option<String> {
        Some("AMX is only used on Linux".to_owned())
    }

    /// CPUID.7.0 EDX bits 24 (AMX-TILE) and 22 (AMX-BF16), XCR0 bits 17 and 18 (tile configuration and
    /// data), the system's permission for tile data, and a trial. CPUID leaf 0x1D is not asked: it
    /// reads zero on virtual machines where AMX works.
    #[cfg(target_os = "linux")]
    pub fn amx() -> Option<String> {
        static MISSING: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        MISSING.get_or_init(|| avx512_vnni().or_else(linux::amx)).clone()
    }

    #[cfg(target_os = "linux")]
    mod linux {
        use super::TileConfig;
        use std::arch::asm;
        use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

        pub fn amx() -> Option<String> {
            if __cpuid(0).eax < 7 {
                return Some("the CPU has no AMX-TILE".to_owned());
            }
            let edx = __cpuid_count(7, 0).edx;
            let missing = super::first_missing(&[
                ("AMX-TILE", edx >> 24 & 1 == 1),
                ("AMX-BF16", edx >> 22 & 1 == 1),
            ]);
            if missing.is_some() {
                return missing;
            }
            // SAFETY: AVX-512 was found, so the system has enabled XSAVE and XGETBV works.
            let xcr0 = unsafe { xcr0() };
            if xcr0 >> 17 & 3 != 3 {
                return Some(format!("the system has not enabled tile state (XCR0 = {xcr0:#x})"));
            }
            const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
            const XFEATURE_XTILEDATA: libc::c_ulong = 18;
            // SAFETY: the call takes two integers and changes what this process may use, no memory.
            let denied = unsafe {
                libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
            };
            if denied != 0 {
                let why = std::io::Error::last_os_error();
                return Some(format!("the system does not grant tile data: {why}"));
            }
            trial()
        }

        #[target_feature(enable = "xsave")]
        fn xcr0() -> u64 {
            // SAFETY: register 0 always exists where XGETBV does.
            unsafe { _xgetbv(0) }
        }

        /// Runs a few tile instructions in a child process, which alone dies if a hypervisor says
        /// AMX and does not mean it.
        fn trial() -> Option<String> {
            const STACK: usize = 64 << 10;
            let mut stack = vec![0u128; STACK / 16];
            let top = stack.as_mut_ptr_range().end;
            let mut status = 0;
            // SAFETY: CLONE_VM | CLONE_VFORK: the child runs on `stack`, which stays alive since
            // this thread sleeps until the child is gone; the child makes no call but `_exit`.
            let outcome = unsafe {
                let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
                let pid = libc::clone(child, top.cast(), flags, std::ptr::null_mut());
                if pid < 0 { pid } else { libc::waitpid(pid, &mut status, 0) }
            };
            if outcome < 0 {
                return Some(format!("no trial process: {}", std::io::Error::last_os_error()));
            }
            if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
                return None;
            }
            let signal = if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { 0 };
            Some(format!("tile instructions fail in a trial process (signal {signal})"))
        }

        extern "C" fn child(_: *mut libc::c_void) -> libc::c_int {
            let config = TileConfig::FULL;
            // SAFETY: at worst an illegal instruction ends this process, which exists to find out.
            unsafe {
                asm!(
                    "ldtilecfg [{}]",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tdpbf16ps tmm0, tmm1, tmm2",
                    "tilerelease",
                    in(reg) &config,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _,
                    options(nostack),
                );
                libc::_exit(0)
            }
        }
    }
}
