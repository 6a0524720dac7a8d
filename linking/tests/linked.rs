//! What is said of a program, beside what happens when it is started: real libraries of a real compiler, judged by the
//! machine's own dynamic linker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;
use twostage_linking::{Lack, LibraryRoot, LibrarySearch, LinkCheckResult, LinkFault, Linkage, LinkageState, Machine, check};

/// This machine, of which only the files of a folder are searched for names.
struct Here {
    folder: PathBuf,
}

impl Here {
    fn all(&self) -> Vec<PathBuf> {
        let (mut found, mut todo) = (Vec::new(), vec![self.folder.clone()]);
        while let Some(folder) = todo.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() { todo.push(entry.path()) } else { found.push(entry.path()) }
            }
        }
        found.sort();
        found
    }
}

fn relative(path: &Path) -> String {
    path.strip_prefix("/").unwrap().to_str().unwrap().to_string()
}

impl LibraryRoot for Here {
    fn real(&self, path: &str) -> Option<String> {
        let real = fs::canonicalize(Path::new("/").join(path)).ok()?;
        real.is_file().then(|| relative(&real))
    }

    fn look(&self, real: &str) -> LinkageState {
        let linkage = fs::read(Path::new("/").join(real)).ok().and_then(|bytes| Linkage::read(&bytes));
        linkage.map_or(LinkageState::Nothing, |linkage| LinkageState::Is(Arc::new(linkage)))
    }

    fn files(&self) -> Vec<String> {
        self.all().iter().filter(|path| path.is_file()).map(|path| relative(path)).collect()
    }

    fn named(&self, name: &str) -> Vec<String> {
        self.all().iter().filter(|path| path.ends_with(name)).map(|path| relative(path)).collect()
    }
}

/// A folder with libraries and programs, made by the compiler.
struct Workshop {
    dir: TempDir,
}

impl Workshop {
    fn new() -> Workshop {
        // A folder whose path has no link in it.
        Workshop { dir: tempfile::Builder::new().tempdir_in(fs::canonicalize(std::env::temp_dir()).unwrap()).unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.at(name).parent().unwrap()).unwrap();
        fs::write(self.at(name), text).unwrap();
    }

    /// Compiles C, in the folder, so that paths in words are relative to it.
    fn cc(&self, output: &str, source: &str, words: &[&str]) {
        self.write(&format!("{output}.c"), source);
        let done = Command::new("cc")
            .current_dir(self.dir.path())
            .args(["-o", output, &format!("{output}.c"), "-L."])
            .args(words)
            .output()
            .expect("cc: apt-get install gcc libc6-dev");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        fs::remove_file(self.at(&format!("{output}.c"))).unwrap();
    }

    fn library(&self, name: &str, source: &str, words: &[&str]) {
        let soname = format!("-Wl,-soname,{name}");
        self.cc(name, source, &[&["-shared", "-fPIC", &soname], words].concat());
    }

    /// Every fault of what is in the folder: which file, and what it lacks.
    fn faults(&self) -> Vec<(String, Lack)> {
        let here = Here { folder: self.dir.path().to_path_buf() };
        let search = LibrarySearch {
            machine: Machine::of(if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }),
            ..LibrarySearch::default()
        };
        let files: BTreeSet<String> = here.files().into_iter().collect();
        match check(&here, &search, &files) {
            LinkCheckResult::Faults(faults) => faults
                .into_iter()
                .map(|LinkFault { file, lacks, .. }| (file.rsplit('/').next().unwrap().to_string(), self.without_folder(lacks)))
                .collect(),
            LinkCheckResult::Read(files) => panic!("all is read: {files:?}"),
        }
    }

    fn without_folder(&self, lacks: Lack) -> Lack {
        match lacks {
            Lack::Library { name, elsewhere: Some(path) } => {
                Lack::Library { name, elsewhere: path.strip_prefix(&format!("{}/", relative(self.dir.path()))).map(String::from) }
            }
            other => other,
        }
    }

    /// What the machine's linker says of a program: nothing, if it starts.
    fn start(&self, program: &str) -> String {
        match Command::new(self.at(program)).env("LD_BIND_NOW", "1").output() {
            Ok(done) if done.status.success() => String::new(),
            Ok(done) => format!("{}: {}", done.status, String::from_utf8_lossy(&done.stderr)),
            Err(cause) => cause.to_string(),
        }
    }
}

const BESIDE: &str = "-Wl,-rpath,$ORIGIN";

fn library(name: &str, elsewhere: Option<&str>) -> Lack {
    Lack::Library { name: name.into(), elsewhere: elsewhere.map(String::from) }
}

fn symbols(names: &[&str]) -> Lack {
    Lack::Symbols(names.iter().map(ToString::to_string).collect())
}

/// A library with two functions, and a program that calls both.
fn two_functions() -> Workshop {
    let shop = Workshop::new();
    shop.library("libx.so.1", "int x_one(void) { return 0; } int x_two(void) { return 0; }", &[]);
    shop.cc("program", "int x_one(void), x_two(void); int main(void) { return x_one() + x_two(); }", &["-l:libx.so.1", BESIDE]);
    assert_eq!(shop.start("program"), "");
    assert_eq!(shop.faults(), []);
    shop
}

#[test]
fn a_library_that_lost_functions_is_told_with_their_names() {
    let shop = two_functions();
    shop.library("libx.so.1", "int x_one(void) { return 0; }", &[]);
    assert!(shop.start("program").contains("undefined symbol: x_two"), "{}", shop.start("program"));
    assert_eq!(shop.faults(), [("program".to_string(), symbols(&["x_two"]))]);
}

#[test]
fn a_library_that_is_gone_or_where_nobody_looks_is_told() {
    let shop = two_functions();
    fs::create_dir(shop.at("private")).unwrap();
    fs::rename(shop.at("libx.so.1"), shop.at("private/libx.so.1")).unwrap();
    assert!(shop.start("program").contains("libx.so.1: cannot open shared object file"));
    assert_eq!(shop.faults(), [("program".to_string(), library("libx.so.1", Some("private/libx.so.1")))]);
    fs::remove_dir_all(shop.at("private")).unwrap();
    assert_eq!(shop.faults(), [("program".to_string(), library("libx.so.1", None))]);
}

#[test]
fn a_damaged_library_is_none() {
    let shop = two_functions();
    let bytes = fs::read(shop.at("libx.so.1")).unwrap();
    fs::write(shop.at("libx.so.1"), &bytes[..100]).unwrap();
    assert_ne!(shop.start("program"), "");
    assert_eq!(shop.faults(), [("program".to_string(), library("libx.so.1", None))]);
}

#[test]
fn a_version_that_a_library_has_no_more_is_told() {
    let shop = Workshop::new();
    let source = "int x_one(void) { return 0; }";
    shop.write("one", "X_1 { global: x_old; };");
    shop.write("two", "X_1 { global: x_old; }; X_2 { global: x_one; } X_1;");
    shop.library("libx.so.1", source, &["-Wl,--version-script=two"]);
    shop.cc("program", "int x_one(void); int main(void) { return x_one(); }", &["-l:libx.so.1", BESIDE]);
    assert_eq!((shop.start("program").as_str(), shop.faults()), ("", vec![]));
    shop.library("libx.so.1", source, &["-Wl,--version-script=one"]);
    assert!(shop.start("program").contains("version `X_2' not found"), "{}", shop.start("program"));
    let version = Lack::Version { library: "libx.so.1".into(), version: "X_2".into() };
    assert_eq!(shop.faults(), [("program".to_string(), version.clone())]);
    // Nor has one without any.
    shop.library("libx.so.1", source, &[]);
    assert!(shop.start("program").contains("no version information available"), "{}", shop.start("program"));
    assert_eq!(shop.faults(), [("program".to_string(), version)]);
}

#[test]
fn a_function_that_has_another_version_now_is_told() {
    let shop = Workshop::new();
    let source = "int x_one(void) { return 0; } int x_two(void) { return 0; }";
    shop.write("before", "X_1 { global: x_two; }; X_2 { global: x_one; } X_1;");
    shop.write("after", "X_1 { global: x_one; }; X_2 { global: x_two; } X_1;");
    shop.library("libx.so.1", source, &["-Wl,--version-script=before"]);
    shop.cc("program", "int x_one(void); int main(void) { return x_one(); }", &["-l:libx.so.1", BESIDE]);
    shop.library("libx.so.1", source, &["-Wl,--version-script=after"]);
    assert!(shop.start("program").contains("undefined symbol: x_one, version X_2"), "{}", shop.start("program"));
    assert_eq!(shop.faults(), [("program".to_string(), symbols(&["x_one@X_2"]))]);
}

/// RPATH holds for the libraries of libraries, RUNPATH for a file's own.
#[test]
fn folders_are_searched_as_the_linker_searches_them() {
    for (tags, starts) in [("-Wl,--disable-new-dtags", true), ("-Wl,--enable-new-dtags", false)] {
        let shop = Workshop::new();
        fs::create_dir(shop.at("lib")).unwrap();
        shop.library("liby.so.1", "int y(void) { return 0; }", &[]);
        shop.library("libx.so.1", "int y(void); int x(void) { return y(); }", &["-l:liby.so.1"]);
        let words = ["-l:libx.so.1", "-Wl,--allow-shlib-undefined", "-Wl,-rpath,$ORIGIN/../lib", tags];
        shop.cc("lib/program", "int x(void); int main(void) { return x(); }", &words);
        for name in ["libx.so.1", "liby.so.1"] {
            fs::rename(shop.at(name), shop.at("lib").join(name)).unwrap();
        }
        assert_eq!(shop.start("lib/program").is_empty(), starts, "{tags}: {}", shop.start("lib/program"));
        let expected = if starts { vec![] } else { vec![("libx.so.1".to_string(), library("liby.so.1", Some("lib/liby.so.1")))] };
        assert_eq!(shop.faults(), expected, "{tags}");
    }
}

#[test]
fn a_library_may_be_needed_by_a_path() {
    let shop = Workshop::new();
    shop.library("libx.so.1", "int x(void) { return 0; }", &["-Wl,-soname,$ORIGIN/libx.so.1"]);
    shop.cc("program", "int x(void); int main(void) { return x(); }", &["-l:libx.so.1"]);
    assert_eq!((shop.start("program").as_str(), shop.faults()), ("", vec![]));
    fs::rename(shop.at("libx.so.1"), shop.at("gone")).unwrap();
    assert_ne!(shop.start("program"), "");
    assert_eq!(shop.faults(), [("program".to_string(), library("$ORIGIN/libx.so.1", None))]);
}

#[test]
fn a_weak_symbol_may_be_missing() {
    let shop = Workshop::new();
    shop.library("libx.so.1", "int x(void) { return 0; }", &[]);
    let source = "int x(void); __attribute__((weak)) int perhaps(void); int main(void) { return perhaps ? 1 : x(); }";
    shop.cc("program", source, &["-l:libx.so.1", BESIDE]);
    assert_eq!((shop.start("program").as_str(), shop.faults()), ("", vec![]));
}

#[test]
fn a_program_without_its_linker_or_without_any_is_told_apart() {
    let shop = Workshop::new();
    shop.cc("program", "int main(void) { return 0; }", &["-Wl,--dynamic-linker=/nowhere/ld.so"]);
    shop.cc("static", "int main(void) { return 0; }", &["-static"]);
    assert!(shop.start("program").contains("No such file"), "{}", shop.start("program"));
    assert_eq!(shop.start("static"), "");
    assert_eq!(shop.faults(), [("program".to_string(), Lack::Interpreter("/nowhere/ld.so".into()))]);
}

/// Who loads a plugin brings what the plugin needs.
#[test]
fn what_a_plugin_needs_may_be_anywhere() {
    let shop = Workshop::new();
    shop.library("plugin.so", "int offered(void); int plugin(void) { return offered(); }", &[]);
    assert_eq!(shop.faults(), [("plugin.so".to_string(), symbols(&["offered"]))], "nobody has it");
    let source = "#include <dlfcn.h>\nint offered(void) { return 0; }\nint main(int n, char **words) {\n\
                  char path[4096]; __builtin_snprintf(path, sizeof path, \"%s/../plugin.so\", words[0]);\n\
                  return dlopen(PLUGIN, RTLD_NOW) ? 0 : 1; }";
    let plugin = format!("-DPLUGIN=\"{}\"", shop.at("plugin.so").display());
    shop.cc("program", source, &["-rdynamic", &plugin, "-ldl"]);
    assert_eq!((shop.start("program").as_str(), shop.faults()), ("", vec![]), "the program has it");
    shop.cc("program", source, &["-fvisibility=hidden", &plugin, "-ldl"]);
    assert_ne!(shop.start("program"), "");
    assert_eq!(shop.faults(), [("plugin.so".to_string(), symbols(&["offered"]))], "the program keeps it for itself");
}

#[test]
fn no_file_makes_the_reader_panic() {
    let shop = two_functions();
    let mut read = BTreeMap::from([(true, 0), (false, 0)]);
    for name in ["program", "libx.so.1"] {
        let good = fs::read(shop.at(name)).unwrap();
        assert!(Linkage::read(&good).is_some());
        for length in (0..good.len()).step_by(7) {
            *read.entry(Linkage::read(&good[..length]).is_some()).or_default() += 1;
        }
        // The headers, and all tables that they lead to.
        for at in 0..good.len().min(4096) {
            for value in [0, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                *read.entry(Linkage::read(&bad).is_some()).or_default() += 1;
            }
        }
        for at in good.len().saturating_sub(4096)..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            *read.entry(Linkage::read(&bad).is_some()).or_default() += 1;
        }
    }
    assert!(read[&true] > 0 && read[&false] > 0, "{read:?}");
}
