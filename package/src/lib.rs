//! One package: read hostile input, write, compare; the dpkg database.
//!
//! ```text
//! bytes of a .deb ─► deb::read ─► Deb { id, control, sha256, size, date, source }
//!                 └► content::content_digest ─► what it contains, without its rebuild's suffix
//! control + files ─► write::write_deb ─► bytes of a .deb
//! bytes of a .rpm ─► rpm::read ─► Rpm { id, header, sha256 of header + payload, signer, … }
//!                 │    header ─► rpm::files, dependencies, changelog
//!                 └► rpm::content_digest, as for a .deb
//! names + files   ─► rpm::write::write_rpm ─► bytes of a .rpm
//! a record of rpm's database ─► rpm::Header::parse ─► the same header
//! text of a .dsc  ─► control::dsc_files ─► Dsc
//! ```
//!
//! Everything that is read is taken to be hostile: no panic, no allocation that the input chooses,
//! and a refusal says its reason. Sync, no clock, no network, no files of its own.

pub mod content;
pub mod control;
pub mod deb;
pub mod dpkg;
pub mod packed_files;
pub mod rpm;
pub mod rpmdb;
pub mod version;
pub mod write;

mod archive;
mod relation;
#[cfg(test)]
mod testing;
mod xz;

pub use archive::{unpacked, unpacked_or_lzma};

/// A reason for refusing input. It becomes an [`twostage_model::Error`] once, where the input's
/// name is known.
type Check<T> = std::result::Result<T, String>;

/// At most 120 characters of hostile text, quoted and without control characters.
fn shown(text: impl AsRef<[u8]>) -> String {
    let bytes = text.as_ref();
    let cut = bytes.get(..480).unwrap_or(bytes);
    let text: String = String::from_utf8_lossy(cut).chars().take(120).collect();
    format!("{text:?}")
}
