//! What programs and libraries of a root lack, looked for as glibc's dynamic linker does (`ld.so(8)`).
//!
//! ```text
//! a program ─► its libraries, theirs, … in the linker's order ─► each version that one asks of another
//!                                                             └► each symbol that one imports
//! ```
//!
//! A library that no program loads is a plugin: who loads it brings more with it. So what such a one needs may be
//! anywhere in the root.

use crate::elf::{ImportedSymbol, Linkage, Machine};
use crate::folders::{LIBRARY_FOLDERS, folder, within};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Files that one process may load.
const MAX_LOADED: usize = 4096;

/// Symbols that no file has, because whoever loads such a library is a debugger and has them (`proc_service.h` of glibc).
const OF_DEBUGGERS: (&str, &str) = ("libthread_db.so.", "ps_");

/// What is known of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum LinkageState {
    /// The dynamic linker has no use for it, or it is not there.
    Nothing,
    /// Nobody has read it yet.
    #[default]
    Unread,
    /// What it says.
    Is(Arc<Linkage>),
}

/// The files of a root. Paths have no slash at either end.
pub trait LibraryRoot {
    /// Where a path leads, all links followed, if a file is there.
    fn real(&self, path: &str) -> Option<String>;
    /// What the file at a real path says.
    fn look(&self, real: &str) -> LinkageState;
    /// The real paths of all files.
    fn files(&self) -> Vec<String>;
    /// The paths of all files and links with this name, in order.
    fn named(&self, name: &str) -> Vec<String>;
}

/// Something that is not there for a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkFault {
    /// The file that asks for it.
    pub file: String,
    /// The program that loads the file, if it is another one.
    pub program: Option<String>,
    /// Of a plugin, what it loads by itself, in the linker's order, itself first: whoever makes none of these is not to
    /// blame. Packages have plugins for what they only recommend. Empty for what a program loads.
    pub plugin: Vec<String>,
    /// What is not there.
    pub lacks: Lack,
}

/// What a file asks for and does not find.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// The dynamic linker.
    Interpreter(String),
    /// A library, and where one of that name is, though the linker does not look there.
    Library {
        /// Its name.
        name: String,
        /// A path.
        elsewhere: Option<String>,
    },
    /// A version of a library that is there.
    Version {
        /// The library's name.
        library: String,
        /// The version's.
        version: String,
    },
    /// Symbols that nothing that it loads has, in order; with `@` and a version where it asks for one.
    Symbols(Vec<String>),
}

/// What a check found, or what it has to know first.
#[derive(Debug, PartialEq, Eq)]
pub enum LinkCheckResult {
    /// What is not there, in order.
    Faults(Vec<LinkFault>),
    /// Files that must be read, by their real paths.
    Read(BTreeSet<String>),
}

/// How the linker of a root looks for libraries.
#[derive(Debug, Clone, Default)]
pub struct LibrarySearch {
    /// The folders of `LD_LIBRARY_PATH`.
    pub environment: Vec<String>,
    /// The folders of `ld.so.conf`, as [`crate::configured`] reads them.
    pub configured: Vec<String>,
    /// What the root runs on, if it is known. Programs for other machines are not judged where their linker is not there:
    /// tools such as valgrind bring some.
    pub machine: Option<Machine>,
}

/// Checks files of a root, by their real paths.
pub fn check(root: &dyn LibraryRoot, search: &LibrarySearch, files: &BTreeSet<String>) -> LinkCheckResult {
    let mut check = LinkCheck {
        root,
        search,
        unread: BTreeSet::new(),
        faults: BTreeMap::new(),
        own: HashMap::new(),
        all: Arc::default(),
        usual: HashMap::new(),
    };
    let known: Vec<(&String, Arc<Linkage>)> = files.iter().filter_map(|file| Some((file, check.look(file)?))).collect();
    if !check.unread.is_empty() {
        return LinkCheckResult::Read(check.unread);
    }
    let mut loaded = HashSet::new();
    for (file, linkage) in known.iter().filter(|(_, linkage)| linkage.is_program()) {
        let scope = check.load(file, linkage);
        check.program(&scope, &mut loaded);
    }
    for (file, linkage) in &known {
        if !linkage.is_program() && !loaded.contains(*file) {
            let scope = check.load(file, linkage);
            check.plugin(file, &scope);
        }
    }
    if !check.unread.is_empty() {
        return LinkCheckResult::Read(check.unread);
    }
    LinkCheckResult::Faults(check.faults.into_values().collect())
}

struct LinkCheck<'r> {
    root: &'r dyn LibraryRoot,
    search: &'r LibrarySearch,
    unread: BTreeSet<String>,
    /// Each once, with the first program for which it is so.
    faults: BTreeMap<(String, Lack), LinkFault>,
    /// Imports of files that what they load by themselves does not have.
    own: HashMap<String, Arc<Vec<ImportedSymbol>>>,
    /// All programs and libraries, once somebody has asked for them.
    all: Arc<Vec<Arc<Linkage>>>,
    /// Libraries in the folders where those of all files are looked for.
    usual: HashMap<(String, Machine), Option<LibraryFile>>,
}

/// Where a library is: the folder in which it was found, and its real path.
#[derive(Clone)]
struct LibraryFile {
    origin: String,
    real: String,
    linkage: Arc<Linkage>,
}

/// A file in a process.
struct LoadedFile {
    found: LibraryFile,
    /// Who asked for it first, by number.
    by: Option<usize>,
}

/// All files of a process, the program first, and which libraries are not there: who asks, and for what.
struct LoadedFiles {
    loaded: Vec<LoadedFile>,
    /// Which of them has a name.
    names: HashMap<String, usize>,
    missing: Vec<(usize, String)>,
}

impl LoadedFiles {
    fn has(&self, import: &ImportedSymbol) -> bool {
        self.loaded.iter().any(|there| there.found.linkage.has(import))
    }
}

impl LinkCheck<'_> {
    fn look(&mut self, real: &str) -> Option<Arc<Linkage>> {
        match self.root.look(real) {
            LinkageState::Is(linkage) => Some(linkage),
            LinkageState::Nothing => None,
            LinkageState::Unread => {
                self.unread.insert(real.to_string());
                None
            }
        }
    }

    /// What a process has that begins with a file, in the linker's order.
    fn load(&mut self, file: &str, linkage: &Arc<Linkage>) -> LoadedFiles {
        let found = LibraryFile { origin: folder(file).to_string(), real: file.to_string(), linkage: Arc::clone(linkage) };
        let first = LoadedFile { found, by: None };
        let mut scope = LoadedFiles { loaded: vec![first], names: HashMap::new(), missing: Vec::new() };
        scope.names.extend(linkage.soname.clone().map(|name| (name, 0)));
        let mut next = 0;
        while next < scope.loaded.len() {
            let asks = Arc::clone(&scope.loaded[next].found.linkage);
            let interpreter = asks.interpreter.as_ref().filter(|_| next == 0);
            for name in asks.needed.iter().chain(interpreter) {
                if scope.names.contains_key(name) || scope.loaded.len() >= MAX_LOADED {
                    continue;
                }
                match self.find(&scope, next, name) {
                    Some(found) => {
                        let at = scope.loaded.iter().position(|there| there.found.real == found.real);
                        let at = at.unwrap_or_else(|| {
                            scope.loaded.push(LoadedFile { found, by: Some(next) });
                            scope.loaded.len() - 1
                        });
                        let soname = scope.loaded[at].found.linkage.soname.clone();
                        for name in soname.into_iter().chain([name.clone()]) {
                            scope.names.entry(name).or_insert(at);
                        }
                    }
                    None => scope.missing.push((next, name.clone())),
                }
            }
            next += 1;
        }
        scope
    }

    /// A library that a file of a process asks for.
    fn find(&mut self, scope: &LoadedFiles, by: usize, name: &str) -> Option<LibraryFile> {
        let asks = &scope.loaded[by].found;
        let machine = asks.linkage.machine;
        if name.contains('/') {
            return LIBRARY_FOLDERS.iter().find_map(|library| self.found(expanded(name, &asks.origin, library)?, machine));
        }
        let mut folders: Vec<String> = Vec::new();
        let mut expand = |of: &LibraryFile, list: &[String]| {
            for written in list {
                LIBRARY_FOLDERS.iter().for_each(|library| folders.extend(expanded(written, &of.origin, library)));
            }
        };
        if asks.linkage.runpath.is_empty() {
            let mut chain = Some(by);
            while let Some(of) = chain.map(|at| &scope.loaded[at]) {
                expand(&of.found, &of.found.linkage.rpath);
                chain = of.by;
            }
        }
        expand(asks, &self.search.environment);
        expand(asks, &asks.linkage.runpath);
        let mut seen = HashSet::new();
        let own = folders.into_iter().filter(|folder| seen.insert(folder.clone()));
        own.collect::<Vec<_>>()
            .into_iter()
            .find_map(|folder| self.found(format!("{folder}/{name}"), machine))
            .or_else(|| self.usual(name, machine))
    }

    /// A library in the folders of `ld.so.conf` and the linker's own.
    fn usual(&mut self, name: &str, machine: Machine) -> Option<LibraryFile> {
        let key = (name.to_string(), machine);
        if let Some(known) = self.usual.get(&key) {
            return known.clone();
        }
        let own = LIBRARY_FOLDERS.iter().flat_map(|library| [library.to_string(), format!("usr/{library}")]);
        let mut folders = self.search.configured.iter().cloned().chain(own);
        let found = folders.find_map(|folder| self.found(format!("{folder}/{name}"), machine));
        self.usual.insert(key, found.clone());
        found
    }

    /// What is at a path, if it can be in one process with files of that machine.
    fn found(&mut self, path: String, machine: Machine) -> Option<LibraryFile> {
        let real = self.root.real(&path)?;
        let linkage = self.look(&real)?;
        (linkage.machine == machine).then(|| LibraryFile { origin: folder(&path).to_string(), real, linkage })
    }

    /// A file of a process lacks something.
    fn fault(&mut self, file: &str, scope: &LoadedFiles, lacks: Lack) {
        let first = &scope.loaded[0].found;
        let (program, plugin) = if first.linkage.is_program() {
            (Some(first.real.clone()).filter(|program| program != file), Vec::new())
        } else {
            (None, scope.loaded.iter().map(|there| there.found.real.clone()).collect())
        };
        let fault = LinkFault { file: file.to_string(), program, plugin, lacks: lacks.clone() };
        self.faults.entry((file.to_string(), lacks)).or_insert(fault);
    }

    fn program(&mut self, scope: &LoadedFiles, loaded: &mut HashSet<String>) {
        let linkage = &scope.loaded[0].found.linkage;
        let interpreter = linkage.interpreter.clone();
        let is_foreign = self.search.machine.is_some_and(|machine| machine != linkage.machine);
        if is_foreign && scope.missing.iter().any(|(by, name)| *by == 0 && Some(name) == interpreter.as_ref()) {
            return;
        }
        for (by, name) in &scope.missing {
            let asks = &scope.loaded[*by].found.real;
            let lacks = if Some(name) == interpreter.as_ref() && *by == 0 {
                Lack::Interpreter(name.clone())
            } else {
                let machine = scope.loaded[*by].found.linkage.machine;
                Lack::Library { name: name.clone(), elsewhere: self.elsewhere(name, machine) }
            };
            self.fault(asks, scope, lacks);
        }
        // What is missing has the symbols that would be missing, too.
        let whole = scope.missing.is_empty();
        self.versions(scope);
        for LoadedFile { found: of, .. } in &scope.loaded {
            loaded.insert(of.real.clone());
            if !whole {
                continue;
            }
            let left = self.left(&of.real, &of.linkage);
            let names: Vec<String> = left.iter().filter(|import| !scope.has(import)).map(ImportedSymbol::to_string).collect();
            if !names.is_empty() {
                self.fault(&of.real, scope, Lack::Symbols(names));
            }
        }
    }

    fn plugin(&mut self, file: &str, scope: &LoadedFiles) {
        let mut whole = true;
        for (by, name) in &scope.missing {
            let asks = &scope.loaded[*by].found;
            let machine = asks.linkage.machine;
            if self.elsewhere(name, machine).is_none() && !self.is_called(name, machine) {
                self.fault(&asks.real, scope, Lack::Library { name: name.clone(), elsewhere: None });
                whole = false;
            }
        }
        self.versions(scope);
        if !whole {
            return;
        }
        let left = self.left(file, &scope.loaded[0].found.linkage);
        let (library, prefix) = OF_DEBUGGERS;
        let is_of_debuggers = file.rsplit('/').next().is_some_and(|name| name.starts_with(library));
        let mut lacks: Vec<&ImportedSymbol> = left.iter().filter(|import| !is_of_debuggers || !import.name.starts_with(prefix)).collect();
        if lacks.is_empty() {
            return;
        }
        for linkage in self.all().iter() {
            lacks.retain(|import| !linkage.has(import));
            if lacks.is_empty() {
                return;
            }
        }
        let names = lacks.into_iter().map(ImportedSymbol::to_string).collect();
        self.fault(file, scope, Lack::Symbols(names));
    }

    /// Versions that one asks of another, which does not have them. (Where that has no version at all, glibc warns, and ends
    /// the program when it comes to the symbol. musl knows no versions.)
    fn versions(&mut self, scope: &LoadedFiles) {
        if scope.names.keys().any(|name| name.starts_with("libc.musl-")) {
            return;
        }
        for LoadedFile { found: of, .. } in &scope.loaded {
            for (library, version) in &of.linkage.versions_needed {
                let Some(there) = scope.names.get(library).map(|at| &scope.loaded[*at].found) else { continue };
                if !there.linkage.versions.contains(version) {
                    let lacks = Lack::Version { library: library.clone(), version: version.clone() };
                    self.fault(&of.real, scope, lacks);
                }
            }
        }
    }

    /// A file's imports that neither it nor what it loads by itself has.
    fn left(&mut self, file: &str, linkage: &Arc<Linkage>) -> Arc<Vec<ImportedSymbol>> {
        if let Some(left) = self.own.get(file) {
            return Arc::clone(left);
        }
        let scope = self.load(file, linkage);
        let left = linkage.imports.iter().filter(|import| !scope.has(import)).cloned().collect();
        let left = Arc::new(left);
        self.own.insert(file.to_string(), Arc::clone(&left));
        left
    }

    /// Whether any file wants to be called so. Who loads a plugin may have loaded that one before.
    fn is_called(&mut self, name: &str, machine: Machine) -> bool {
        self.all().iter().any(|linkage| linkage.machine == machine && linkage.soname.as_deref() == Some(name))
    }

    /// All programs and libraries of the root.
    fn all(&mut self) -> Arc<Vec<Arc<Linkage>>> {
        if self.all.is_empty() {
            let files = self.root.files();
            self.all = Arc::new(files.iter().filter_map(|real| self.look(real)).collect());
        }
        Arc::clone(&self.all)
    }

    /// Where a library of a name is for a machine.
    fn elsewhere(&mut self, name: &str, machine: Machine) -> Option<String> {
        let places = self.root.named(name);
        places.into_iter().find(|path| {
            let real = self.root.real(path);
            real.and_then(|real| self.look(&real)).is_some_and(|linkage| linkage.machine == machine)
        })
    }
}

/// A path in RPATH, RUNPATH, NEEDED or `LD_LIBRARY_PATH`, with the words that stand for others. None where it is not in the root.
fn expanded(written: &str, origin: &str, library: &str) -> Option<String> {
    let mut folder = written.to_string();
    for (word, value) in [("ORIGIN", format!("/{origin}")), ("LIB", library.to_string())] {
        for form in [format!("${{{word}}}"), format!("${word}")] {
            folder = folder.replace(&form, &value);
        }
    }
    // What is relative depends on where the program is started.
    folder.strip_prefix('/').and_then(|folder| within("", folder))
}
