//! What an ELF file says of itself to the dynamic linker.
//!
//! ```text
//! .dynamic        NEEDED libc.so.6   SONAME libx.so.1   RUNPATH $ORIGIN/../lib
//! .gnu.version_r  libc.so.6: GLIBC_2.34
//! .dynsym         U printf@GLIBC_2.2.5   T x_new@@X_1
//! ```
//!
//! Source of the rules: the System V ABI, chapter 5, and "LSB Core: Symbol Versioning".

use object::elf::{
    DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_SONAME, ET_DYN, ET_EXEC, FileHeader32, FileHeader64, PT_INTERP, SHN_UNDEF, SHT_DYNSYM, STB_GLOBAL,
    STB_GNU_UNIQUE, STB_LOCAL, STB_WEAK, STV_HIDDEN, STV_INTERNAL, VER_FLG_BASE, VER_FLG_WEAK,
};
use object::read::elf::{FileHeader, ProgramHeader as _, Sym as _};
use object::{Endianness, SymbolIndex};
use std::collections::BTreeSet;

/// Bytes of a file that is looked into. The largest programs have some 200 MB.
pub const MAX_FILE: u64 = 512 << 20;
/// How each of these files begins.
pub const MAGIC: &[u8] = b"\x7fELF";

/// Libraries that one file may need, and folders that it may look into.
const MAX_NEEDED: usize = 4096;
/// Dynamic symbols of one file. The largest libraries have some 100,000.
const MAX_SYMBOLS: usize = 2_000_000;
/// Bytes of all names of one file.
const MAX_NAMES: usize = 128 << 20;

/// Which files can be in one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Machine {
    /// `e_machine`, such as 62 for x86-64.
    pub number: u16,
    /// Whether addresses have 64 bits.
    pub is_64: bool,
    /// Whether the lowest byte is the first.
    pub is_little: bool,
}

impl Machine {
    /// The machine of an architecture, as images call it (`GOARCH`).
    pub fn of(architecture: &str) -> Option<Machine> {
        let (number, is_64, is_little) = match architecture {
            "amd64" => (62, true, true),
            "arm64" => (183, true, true),
            "386" => (3, false, true),
            "arm" => (40, false, true),
            "riscv64" => (243, true, true),
            "ppc64le" => (21, true, true),
            "s390x" => (22, true, false),
            _ => return None,
        };
        Some(Machine { number, is_64, is_little })
    }
}

/// What a file says of itself to the dynamic linker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linkage {
    /// What it runs on.
    pub machine: Machine,
    /// The dynamic linker that it asks for: then it is a program.
    pub interpreter: Option<String>,
    /// What it wants to be called by those that need it.
    pub soname: Option<String>,
    /// The libraries that it needs, in their order.
    pub needed: Vec<String>,
    /// Folders in which its libraries, and those of its libraries, are looked for first. Empty where `runpath` is not.
    pub rpath: Vec<String>,
    /// Folders in which its libraries are looked for.
    pub runpath: Vec<String>,
    /// Versions that libraries must have: (library, version).
    pub versions_needed: BTreeSet<(String, String)>,
    /// Versions that it has.
    pub versions: BTreeSet<String>,
    /// Symbols that must be found somewhere.
    pub imports: BTreeSet<ImportedSymbol>,
    exports: ExportedSymbols,
}

/// A symbol that must be found somewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImportedSymbol {
    /// Its name.
    pub name: String,
    /// The version of it that is asked for.
    pub version: Option<String>,
    hash: u32,
}

impl ImportedSymbol {
    /// A symbol, with or without a version.
    pub fn new(name: &str, version: Option<&str>) -> ImportedSymbol {
        ImportedSymbol { name: name.into(), version: version.map(String::from), hash: hash(name.as_bytes()) }
    }
}

impl std::fmt::Display for ImportedSymbol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// The hash of a name in `.gnu.hash`.
fn hash(name: &[u8]) -> u32 {
    name.iter().fold(5381, |hash: u32, byte| hash.wrapping_mul(33).wrapping_add(u32::from(*byte)))
}

/// Symbols with versions, in order of their hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ExportedSymbols {
    /// All names, one after the other.
    names: Vec<u8>,
    versions: Vec<String>,
    symbols: Vec<ExportedSymbol>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ExportedSymbol {
    hash: u32,
    /// Where its name is.
    at: u32,
    length: u32,
    /// 1 + the number of its version, or 0.
    version: u32,
}

impl ExportedSymbols {
    /// The versions of a symbol.
    fn of(&self, import: &ImportedSymbol) -> impl Iterator<Item = Option<&str>> {
        let first = self.symbols.partition_point(|export| export.hash < import.hash);
        let alike = self.symbols[first..].iter().take_while(|export| export.hash == import.hash);
        alike.filter(|export| self.name(export) == import.name.as_bytes()).map(|export| self.version(export))
    }

    fn name(&self, export: &ExportedSymbol) -> &[u8] {
        self.names.get(export.at as usize..).and_then(|rest| rest.get(..export.length as usize)).unwrap_or_default()
    }

    fn version(&self, export: &ExportedSymbol) -> Option<&str> {
        self.versions.get((export.version as usize).checked_sub(1)?).map(String::as_str)
    }
}

impl Linkage {
    /// Reads a file. None where the dynamic linker has no use for it: it is no ELF file, an object file, a static program, its
    /// own debug symbols, or damaged.
    pub fn read(bytes: &[u8]) -> Option<Linkage> {
        if !bytes.starts_with(MAGIC) || bytes.len() as u64 > MAX_FILE {
            return None;
        }
        match bytes.get(4)? {
            1 => read(FileHeader32::<Endianness>::parse(bytes).ok()?, bytes),
            2 => read(FileHeader64::<Endianness>::parse(bytes).ok()?, bytes),
            _ => None,
        }
    }

    /// Whether it can be started.
    pub fn is_program(&self) -> bool {
        self.interpreter.is_some()
    }

    /// Whether a symbol that is asked for is one of its own. Where it says no version, it has every one, and who asks for
    /// none takes any: so does glibc (`check_match` in `elf/dl-lookup.c`).
    pub fn has(&self, import: &ImportedSymbol) -> bool {
        self.exports.of(import).any(|there| import.version.is_none() || there.is_none() || there == import.version.as_deref())
    }

    /// The symbols that it has, each once, in order of their names.
    pub fn exports(&self) -> BTreeSet<ImportedSymbol> {
        let name = |export: &ExportedSymbol| String::from_utf8_lossy(self.exports.name(export)).into_owned();
        self.exports.symbols.iter().map(|export| ImportedSymbol::new(&name(export), self.exports.version(export))).collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn read<Elf: FileHeader<Endian = Endianness>>(header: &Elf, bytes: &[u8]) -> Option<Linkage> {
    let endian = header.endian().ok()?;
    let kind = header.e_type(endian);
    if kind != ET_EXEC && kind != ET_DYN {
        return None;
    }
    let machine = Machine { number: header.e_machine(endian).0, is_64: header.is_class_64(), is_little: endian == Endianness::Little };
    let mut interpreter = None;
    for segment in header.program_headers(endian, bytes).ok()? {
        if segment.p_type(endian) == PT_INTERP {
            let path = segment.data(endian, bytes).ok()?;
            interpreter = Some(text(path.split(|byte| *byte == 0).next().unwrap_or_default()));
        }
    }
    let sections = header.sections(endian, bytes).ok()?;
    let dynamic = sections.dynamic_table(endian, bytes).ok()?;
    if dynamic.is_empty() {
        return None;
    }
    let mut linkage = Linkage {
        machine,
        interpreter,
        soname: None,
        needed: Vec::new(),
        rpath: Vec::new(),
        runpath: Vec::new(),
        versions_needed: BTreeSet::new(),
        versions: BTreeSet::new(),
        imports: BTreeSet::new(),
        exports: ExportedSymbols::default(),
    };
    for entry in &dynamic {
        let value = || dynamic.string(entry).ok().map(text);
        let folders = || Some(value()?.split(':').filter(|folder| !folder.is_empty()).take(MAX_NEEDED).map(String::from).collect());
        match entry.tag {
            DT_NEEDED if linkage.needed.len() < MAX_NEEDED => linkage.needed.push(value()?),
            DT_NEEDED => return None,
            DT_SONAME => linkage.soname = Some(value()?),
            DT_RPATH => linkage.rpath = folders()?,
            DT_RUNPATH => linkage.runpath = folders()?,
            _ => {}
        }
    }
    // Who has both means the newer one alone.
    if !linkage.runpath.is_empty() {
        linkage.rpath.clear();
    }
    if let Some((mut needs, link)) = sections.gnu_verneed(endian, bytes).ok()? {
        let strings = sections.strings(endian, bytes, link).ok()?;
        while let Some((need, mut versions)) = needs.next().ok()? {
            let file = text(need.file(endian, strings).ok()?);
            while let Some(version) = versions.next().ok()? {
                if !version.vna_flags.get(endian).contains(VER_FLG_WEAK) {
                    linkage.versions_needed.insert((file.clone(), text(version.name(endian, strings).ok()?)));
                }
            }
        }
    }
    if let Some((mut definitions, link)) = sections.gnu_verdef(endian, bytes).ok()? {
        let strings = sections.strings(endian, bytes, link).ok()?;
        while let Some((definition, mut names)) = definitions.next().ok()? {
            if definition.vd_flags.get(endian).contains(VER_FLG_BASE) {
                continue;
            }
            if let Some(name) = names.next().ok()? {
                linkage.versions.insert(text(name.name(endian, strings).ok()?));
            }
        }
    }
    symbols(header, endian, bytes, &mut linkage)?;
    Some(linkage)
}

fn symbols<Elf: FileHeader<Endian = Endianness>>(header: &Elf, endian: Endianness, bytes: &[u8], linkage: &mut Linkage) -> Option<()> {
    let sections = header.sections(endian, bytes).ok()?;
    let table = sections.symbols(endian, bytes, SHT_DYNSYM).ok()?;
    if table.len() > MAX_SYMBOLS {
        return None;
    }
    let versions = sections.versions(endian, bytes).ok()?;
    let exports = &mut linkage.exports;
    // Each name is copied, and hostile ones may all be the same place of a file.
    let mut left = MAX_NAMES.min(bytes.len());
    let mut numbers = std::collections::HashMap::new();
    for (number, symbol) in table.iter().enumerate() {
        let binding = symbol.st_bind();
        if binding == STB_LOCAL || ![STB_GLOBAL, STB_WEAK, STB_GNU_UNIQUE].contains(&binding) {
            continue;
        }
        let name = table.symbol_name(endian, symbol).ok()?;
        if name.is_empty() {
            continue;
        }
        left = left.checked_sub(name.len())?;
        let version = match &versions {
            Some(versions) => versions.version(versions.version_index(endian, SymbolIndex(number)).index()).ok()?,
            None => None,
        };
        if symbol.st_shndx(endian) == SHN_UNDEF {
            if binding != STB_WEAK {
                linkage.imports.insert(ImportedSymbol::new(&text(name), version.map(|version| text(version.name())).as_deref()));
            }
            continue;
        }
        // The dynamic linker passes over them (`do_lookup_x` in `elf/dl-lookup.c`).
        if [STV_HIDDEN, STV_INTERNAL].contains(&symbol.st_visibility()) {
            continue;
        }
        let version = match version {
            None => 0,
            Some(version) => *numbers.entry(version.name()).or_insert_with(|| {
                exports.versions.push(text(version.name()));
                exports.versions.len() as u32
            }),
        };
        let (at, length) = (u32::try_from(exports.names.len()).ok()?, u32::try_from(name.len()).ok()?);
        exports.symbols.push(ExportedSymbol { hash: hash(name), at, length, version });
        exports.names.extend_from_slice(name);
    }
    let mut sorted = std::mem::take(&mut exports.symbols);
    sorted.sort_by_key(|export| export.hash);
    exports.symbols = sorted;
    Some(())
}
