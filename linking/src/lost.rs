//! Which symbols a rebuilt library no longer has.

use crate::{ImportedSymbol, Linkage};

/// What linkers put into a library of their own accord. Which of them there are depends on the linker; `dpkg-gensymbols` leaves
/// them out, too.
const OF_THE_LINKER: [&str; 12] = [
    "_init",
    "_fini",
    "_edata",
    "_end",
    "__end__",
    "__bss_start",
    "__bss_start__",
    "__bss_end__",
    "_bss_end__",
    "__data_start",
    "_DYNAMIC",
    "_GLOBAL_OFFSET_TABLE_",
];

/// The symbols that whoever was linked with `original` may ask for and that `rebuilt` does not give, in order of their names.
///
/// Functions and data count alike, weak ones too: a program takes a weak symbol as it takes another. `rebuilt` gives a
/// symbol as [`Linkage::has`] says: one without a version gives each version. The name of a version is no symbol of its own.
pub fn lost_symbols(original: &Linkage, rebuilt: &Linkage) -> Vec<ImportedSymbol> {
    let is_asked_for =
        |symbol: &ImportedSymbol| !OF_THE_LINKER.contains(&symbol.name.as_str()) && symbol.version.as_deref() != Some(symbol.name.as_str());
    original.exports().into_iter().filter(|symbol| is_asked_for(symbol) && !rebuilt.has(symbol)).collect()
}
