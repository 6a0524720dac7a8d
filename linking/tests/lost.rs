//! What a rebuilt library no longer gives, of libraries that a real compiler made.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::fs;
use std::process::Command;
use tempfile::TempDir;
use twostage_linking::{Linkage, lost_symbols};

const TWO: &str = "int x_one(void) { return 1; } int x_two(void) { return 2; }\n";
const ONE: &str = "int x_one(void) { return 1; }\n";

/// A folder in which libraries are compiled.
struct Compiler(TempDir);

impl Compiler {
    fn new() -> Compiler {
        Compiler(tempfile::tempdir().unwrap())
    }

    fn library(&self, source: &str, words: &[&str]) -> Linkage {
        fs::write(self.0.path().join("x.c"), source).unwrap();
        let mut command = Command::new("cc");
        command.current_dir(self.0.path()).args(["-nostdlib", "-shared", "-fPIC", "-Wl,-soname,libx.so.1", "-o", "x.so", "x.c"]);
        let done = command.args(words).output().expect("cc: apt-get install gcc");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Linkage::read(&fs::read(self.0.path().join("x.so")).unwrap()).expect("a library")
    }

    /// A library whose symbols have versions as the text of a map says.
    fn versioned(&self, source: &str, map: &str) -> Linkage {
        fs::write(self.0.path().join("x.map"), map).unwrap();
        self.library(source, &["-Wl,--version-script,x.map"])
    }
}

fn lost(original: &Linkage, rebuilt: &Linkage) -> Vec<String> {
    lost_symbols(original, rebuilt).iter().map(ToString::to_string).collect()
}

#[test]
fn a_function_that_is_gone_is_lost_and_one_that_is_new_is_not() {
    let at = Compiler::new();
    let (two, one) = (at.library(TWO, &[]), at.library(ONE, &[]));
    assert_eq!(lost(&two, &one), ["x_two"]);
    assert_eq!(lost(&one, &two), [""; 0]);
    assert_eq!(lost(&two, &at.library(TWO, &["-O2"])), [""; 0]);
}

#[test]
fn data_and_weak_symbols_are_lost_as_functions_are() {
    let at = Compiler::new();
    let all = at.library(&format!("{ONE}int x_data = 1;\n__attribute__((weak)) int x_weak(void) {{ return 1; }}\n"), &[]);
    assert_eq!(lost(&all, &at.library(ONE, &[])), ["x_data", "x_weak"]);
    // Whether a symbol is weak does not matter to whoever needs it.
    let strong = at.library(&format!("{ONE}int x_data = 1;\nint x_weak(void) {{ return 1; }}\n"), &[]);
    assert_eq!(lost(&all, &strong), [""; 0]);
    // What it only needs itself, and what it may lack, it never gave.
    let needs = at.library("int y(void); __attribute__((weak)) int z(void); int x_one(void) { return y() + (z ? z() : 0); }\n", &[]);
    assert_eq!(lost(&needs, &at.library(ONE, &[])), [""; 0]);
    assert_eq!(lost(&all, &at.library("int x_weak(void); int x_one(void) { return x_weak(); } int x_data;\n", &[])), ["x_weak"]);
}

#[test]
fn a_symbol_that_is_hidden_now_is_lost_and_one_that_always_was_is_not() {
    let at = Compiler::new();
    let hidden = at.library(&format!("{ONE}__attribute__((visibility(\"hidden\"))) int x_two(void) {{ return 2; }}\n"), &[]);
    assert_eq!(lost(&at.library(TWO, &[]), &hidden), ["x_two"]);
    assert_eq!(lost(&hidden, &at.library(ONE, &[])), [""; 0]);
    let protected = at.library(&format!("{ONE}__attribute__((visibility(\"protected\"))) int x_two(void) {{ return 2; }}\n"), &[]);
    assert_eq!(lost(&at.library(TWO, &[]), &protected), [""; 0]);
}

#[test]
fn a_symbol_that_a_file_lists_as_hidden_is_not_given() {
    use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
    let at = Compiler::new();
    let two = at.library(TWO, &[]);
    // Linkers list no such symbol, and the dynamic linker passes over one that a file lists.
    let path = at.0.path().join("x.so");
    let mut bytes = fs::read(&path).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let number = file.dynamic_symbols().find(|symbol| symbol.name() == Ok("x_two")).unwrap().index().0;
    let (table, _) = file.section_by_name(".dynsym").unwrap().file_range().unwrap();
    // (`st_other` is the sixth of the 24 bytes of a symbol where addresses have 64 bits.)
    let other = usize::try_from(table).unwrap() + 24 * number + 5;
    for (visibility, gone) in [(0, &[][..]), (1, &["x_two"]), (2, &["x_two"]), (3, &[])] {
        bytes[other] = visibility;
        assert_eq!(lost(&two, &Linkage::read(&bytes).unwrap()), gone, "{visibility}");
    }
}

#[test]
fn a_symbol_is_lost_in_the_version_that_programs_ask_for() {
    let at = Compiler::new();
    let first = at.versioned(TWO, "X_1 { global: *; };\n");
    assert_eq!(lost(&first, &at.versioned(ONE, "X_1 { global: *; };\n")), ["x_two@X_1"]);
    // Another version is another symbol; the names of versions are none.
    let moved = at.versioned(TWO, "X_1 { global: x_one; };\nX_2 { global: x_two; } X_1;\n");
    assert_eq!(lost(&first, &moved), ["x_two@X_1"]);
    assert_eq!(lost(&first, &at.versioned(TWO, "X_2 { global: *; };\n")), ["x_one@X_1", "x_two@X_1"]);
    // The older version of a symbol that has two is there for programs that were linked before.
    let source = "__asm__(\".symver old, x_one@X_1\"); __asm__(\".symver new, x_one@@X_2\");\n\
                  int old(void) { return 1; } int new(void) { return 2; }\n";
    let both = at.versioned(source, "X_1 { global: x_one; local: *; };\nX_2 { global: x_one; } X_1;\n");
    let newer = at.versioned(ONE, "X_2 { global: x_one; local: *; };\n");
    assert_eq!(lost(&both, &newer), ["x_one@X_1"]);
    // A library without versions gives each version, and a program that asks for none takes any.
    assert_eq!(lost(&first, &at.library(TWO, &[])), [""; 0]);
    assert_eq!(lost(&at.library(TWO, &[]), &first), [""; 0]);
}

#[test]
fn what_a_linker_adds_of_its_own_is_not_lost() {
    let at = Compiler::new();
    let added = at.library(&format!("{ONE}int _edata_of_mine = 1; char _end[4]; char __bss_start[4];\n"), &[]);
    assert_eq!(lost(&added, &at.library(ONE, &[])), ["_edata_of_mine"]);
}
