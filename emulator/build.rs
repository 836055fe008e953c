//! Gives the library the name that programs ask for.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcudart.so.13");
    // Programs ask for symbols of version `libcudart.so.13`; without it the loader complains on stderr at each start.
    // The option takes the version from the soname, and only GNU ld has it.
    println!("cargo::rustc-cdylib-link-arg=-fuse-ld=bfd");
    println!("cargo::rustc-cdylib-link-arg=-Wl,--default-symver");
}
