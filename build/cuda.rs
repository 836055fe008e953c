//! The CUDA toolkit.

use std::fs;
use std::path::{Path, PathBuf};

use super::lookup::{self, Missing, Place};
use super::vars::{self, Env};

/// The oldest release that the kernels are compiled with in CI (scripts/version_range.sh).
pub const MINIMUM: Version = Version { major: 13, minor: 0 };

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Where NVIDIA's installers put the toolkit.
pub const SYSTEM: &str = "/usr/local/cuda";

#[derive(Debug)]
pub struct Toolkit {
    /// The place of the look-up that it came from.
    pub from: String,
    pub nvcc: PathBuf,
    pub include: PathBuf,
    pub lib: PathBuf,
    pub version: Version,
}

/// `root` is this repository; `system` is [`SYSTEM`], but for tests; `arch` is that of the target, as cargo names it.
pub fn find(env: &Env, root: &Path, system: &Path, arch: &str) -> Result<Toolkit, Missing> {
    let program = |name: &'static str| {
        let path = env.path(name).map(|path| {
            if path.components().count() == 1 {
                env.on_path(&path.to_string_lossy()).unwrap_or(path)
            } else {
                path
            }
        });
        Place::binding(name, path)
    };
    let folder = |path: PathBuf| path.is_dir().then_some(path);
    let mut places = vec![program(vars::NVCC), program(vars::CUDACXX)];
    places.extend(vars::CUDA_ROOTS.map(|name| Place::new(name, env.path(name))));
    places.push(Place::new("nvcc on PATH", env.on_path("nvcc")));
    places.push(lookup::fetched("cuda", env, root));
    places.push(Place::new(
        format!("{} of this machine", system.display()),
        folder(system.to_owned()),
    ));
    lookup::first(
        format!("the CUDA toolkit, {MINIMUM} or later"),
        "set CUDA_HOME to the root of your own toolkit",
        places,
        |place, path| {
            if path.is_dir() { in_root(place, &path, arch) } else { of_nvcc(place, &path, arch) }
        },
    )
}

fn in_root(place: &Place, root: &Path, arch: &str) -> Result<Toolkit, String> {
    let nvcc = root.join("bin/nvcc");
    if !nvcc.is_file() {
        return Err("has no bin/nvcc".to_owned());
    }
    check(place, nvcc, root, arch)
}

fn of_nvcc(place: &Place, nvcc: &Path, arch: &str) -> Result<Toolkit, String> {
    // /usr/bin/nvcc may be a link into the toolkit.
    let real = fs::canonicalize(nvcc).map_err(|error| error.to_string())?;
    let root = real.parent().and_then(Path::parent).ok_or("has no folder above it")?;
    check(place, nvcc.to_owned(), root, arch)
}

fn check(place: &Place, nvcc: PathBuf, root: &Path, arch: &str) -> Result<Toolkit, String> {
    // NVIDIA's packages for several targets, and conda, have folders by target: `sbsa` are ARM servers (GH200, GB200).
    let targets: &[&str] = match arch {
        "aarch64" => &["targets/sbsa-linux", "targets/aarch64-linux"],
        _ => &["targets/x86_64-linux"],
    };
    let multiarch = format!("lib/{arch}-linux-gnu");
    let below_targets =
        |name: &str| targets.iter().map(|target| root.join(target).join(name)).collect();
    let first_with = |file: &str, folders: Vec<PathBuf>| {
        folders.iter().find(|folder| folder.join(file).is_file()).cloned().ok_or_else(|| {
            let folders: Vec<_> = folders
                .iter()
                .filter_map(|folder| folder.strip_prefix(root).ok()?.to_str())
                .collect();
            format!("has nvcc, but no {file} in {} of {}", folders.join(", "), root.display())
        })
    };
    let include =
        first_with("cuda.h", [vec![root.join("include")], below_targets("include")].concat())?;
    let own = ["lib64", "lib"].map(|name| root.join(name)).to_vec();
    let libs = [own, below_targets("lib"), vec![root.join(multiarch)]].concat();
    let lib = first_with("libcudart_static.a", libs)?;
    let version = version_of(&include.join("cuda.h"))?;
    if version < MINIMUM {
        return Err(format!("is CUDA {version}, older than {MINIMUM}"));
    }
    Ok(Toolkit { from: place.name.clone(), nvcc, include, lib, version })
}

fn version_of(header: &Path) -> Result<Version, String> {
    let text = fs::read(header).map_err(|error| format!("{}: {error}", header.display()))?;
    let number = lookup::defined(&String::from_utf8_lossy(&text), "CUDA_VERSION")
        .ok_or_else(|| format!("{} defines no CUDA_VERSION", header.display()))?;
    Ok(Version { major: number / 1000, minor: number % 1000 / 10 })
}
