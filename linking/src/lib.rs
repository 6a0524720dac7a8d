//! Programs and libraries: what they need of each other, and what of that is not there.
//!
//! ```text
//! bytes of a file ─► Linkage ─┐
//! files of a root ────────────┴─► as the dynamic linker looks for them ─► faults
//! ```

mod check;
mod elf;
mod folders;
mod lost;

pub use check::{Lack, LibraryRoot, LibrarySearch, LinkCheckResult, LinkFault, LinkageState, check};
pub use elf::{ImportedSymbol, Linkage, MAGIC, MAX_FILE, Machine};
pub use folders::configured;
pub use lost::lost_symbols;
