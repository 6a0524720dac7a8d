//! The program that is run again inside: a sealed copy of our own, in memory.
//!
//! A container's root can reach the file of the program that runs in it through /proc/1/exe, and could write to it
//! (CVE-2019-5736). A sealed memfd can be written by nobody.

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Result};

/// A path that runs our own program; the copy is made once.
pub(super) fn own() -> Result<PathBuf> {
    static COPY: OnceLock<File> = OnceLock::new();
    let copy = match COPY.get() {
        Some(copy) => copy,
        None => {
            let copy =
                sealed().or_fail(Class::System, || "cannot copy this program into memory, which containers are started with".into())?;
            COPY.get_or_init(|| copy)
        }
    };
    Ok(format!("/proc/self/fd/{}", copy.as_raw_fd()).into())
}

fn sealed() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = match rustix::fs::memfd_create("twostage-sandbox", flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 every such file is executable.
        Err(Errno::INVAL) => rustix::fs::memfd_create("twostage-sandbox", flags)?,
        made => made?,
    };
    let mut memory = File::from(memory);
    io::copy(&mut File::open("/proc/self/exe")?, &mut memory)?;
    rustix::fs::fchmod(&memory, 0o555.into())?;
    rustix::fs::fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
    Ok(memory)
}
