use super::*;
use std::process::Command;
use tempfile::TempDir;
use twostage_model::Format;
use twostage_package::control::Control;
use twostage_package::rpm::write::{NewRpm, write_rpm};
use twostage_package::write::{FileEntry, write_deb};

const LINKER: &str = "lib/ld.so.9";
const LIBRARY: &str = "int x_one(void) { return 1; }\n";
const PROGRAM: &str = "int x_one(void); int begin(void) { return x_one(); }\n";

/// A folder with the compiler's libraries and programs, none of which needs a C library.
struct Workshop(TempDir);

impl Workshop {
    fn new() -> Workshop {
        Workshop(tempfile::tempdir().expect("a folder"))
    }

    fn cc(&self, name: &str, source: &str, words: &[&str]) -> Vec<u8> {
        let at = |name: &str| self.0.path().join(name);
        std::fs::write(at("source.c"), source).expect("written");
        let mut command = Command::new("cc");
        command.current_dir(self.0.path()).args(["-nostdlib", "-fPIC", "-Wl,--no-as-needed", "-o", name, "source.c", "-L."]).args(words);
        let done = command.output().expect("cc: apt-get install gcc");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        std::fs::read(at(name)).expect("made")
    }

    fn library(&self, name: &str, source: &str, words: &[&str]) -> Vec<u8> {
        let soname = format!("-Wl,-soname,{name}");
        self.cc(name, source, &[&["-shared", &soname], words].concat())
    }

    fn versioned(&self, version: &str) -> Vec<u8> {
        std::fs::write(self.0.path().join("map"), format!("{version} {{ global: *; }};\n")).expect("written");
        self.library("libx.so.1", LIBRARY, &["-Wl,--version-script,map"])
    }

    fn program(&self, source: &str, words: &[&str]) -> Vec<u8> {
        let begin = ["-Wl,-e,begin", "-pie", "-Wl,--allow-shlib-undefined", "-Wl,--dynamic-linker=/lib/ld.so.9"];
        self.cc("program", source, &[&begin, words].concat())
    }

    /// A package of some files.
    fn package(&self, format: Format, name: &str, files: &[(&str, &[u8])]) -> PathBuf {
        let files: Vec<FileEntry> =
            files.iter().map(|(path, content)| FileEntry { path: (*path).into(), mode: 0o755, content: content.to_vec() }).collect();
        let bytes = match format {
            Format::Deb => {
                let text = format!("Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: A <a@b>\nDescription: x\n");
                write_deb(&Control::parse(&text).expect("it is one"), &files, &[], 0)
            }
            Format::Rpm => {
                let [name, version, release, arch] = [name, "1", "1", "noarch"].map(String::from);
                let [summary, license, description] = ["x", "MIT", "x"].map(String::from);
                let (requires, provides) = (Vec::new(), Vec::new());
                write_rpm(&NewRpm { name, version, release, arch, summary, license, description, requires, provides }, &files, 0)
            }
        };
        let ending = match format {
            Format::Deb => "_1_all.deb",
            Format::Rpm => "-1-1.noarch.rpm",
        };
        let path = self.0.path().join(format!("{name}{ending}"));
        std::fs::write(&path, bytes.expect("a package")).expect("written");
        path
    }

    /// What is said of packages that a component leaves, beside those of others.
    fn said(&self, own: &[PathBuf], others: &[PathBuf], is_whole: bool) -> String {
        let mut root = PackageRoot::default();
        for path in own.iter().filter(|path| is_judged(&file_name(path))) {
            root.add_package(LibraryOrigin::Own(file_name(path)), File::open(path).expect("there"), &|_| true).expect("it unpacks");
        }
        let linker = self.library("ld.so.9", "int linker(void) { return 0; }\n", &[]);
        let state = node(linker.len() as u64, None, &mut linker.as_slice()).expect("it is read").expect("a library");
        root.add(&LibraryOrigin::Base, LINKER, state);
        let sink = Folder(others.iter().map(|path| (Sha256::of(file_name(path).as_bytes()), path.clone())).collect());
        let listed = others.iter().map(|path| (LibraryOrigin::Closure(file_name(path)), Sha256::of(file_name(path).as_bytes())));
        let judged = judge("app", &sink, &mut root, listed.collect(), None, is_whole);
        judged.map_or_else(|error| format!("{error}; hint: {}", error.hint_or_class()), |()| "nothing".into())
    }
}

/// Packages by the digests of their names.
struct Folder(BTreeMap<Sha256, PathBuf>);

impl PackageSink for Folder {
    fn put(&self, _: &Path) -> Result<Stored> {
        unreachable!("nothing is stored")
    }
    fn put_source(&self, _: &Path, _: &str) -> Result<Sha256> {
        unreachable!("nothing is stored")
    }
    fn get(&self, _: &Sha256) -> Result<Option<Stored>> {
        unreachable!("only files are read")
    }
    fn put_blob(&self, _: &mut dyn Read) -> Result<(Sha256, u64)> {
        unreachable!("nothing is stored")
    }
    fn blob(&self, digest: &Sha256) -> Option<PathBuf> {
        self.0.get(digest).cloned()
    }
    fn serve(&self, _: &[Sha256]) -> Result<(twostage_model::SnapshotId, Vec<(String, String)>)> {
        unreachable!("nothing is served")
    }
}

const FORMATS: [Format; 2] = [Format::Deb, Format::Rpm];

#[test]
fn a_library_is_found_in_own_packages_and_in_those_of_others_and_told_where_nobody_has_it() {
    let at = Workshop::new();
    let library = at.library("libx.so.1", LIBRARY, &[]);
    let program = at.program(PROGRAM, &["-l:libx.so.1"]);
    for format in FORMATS {
        let app = at.package(format, "app", &[("/usr/bin/app", &program)]);
        let libx = at.package(format, "libx", &[("/usr/lib/libx.so.1", &library)]);
        let unrelated = at.package(format, "other", &[("/usr/share/other", b"text")]);
        assert_eq!(at.said(&[app.clone(), libx.clone()], &[], true), "nothing");
        assert_eq!(at.said(std::slice::from_ref(&app), &[unrelated.clone(), libx], true), "nothing");
        let said = at.said(std::slice::from_ref(&app), &[unrelated], true);
        assert!(said.starts_with(&format!("app: {}: /usr/bin/app needs libx.so.1, which neither ", file_name(&app))), "{said}");
        assert!(said.contains("hint: let one of the component's packages bring libx.so.1, or name what has it"), "{said}");
        // Where a Dockerfile installs what it wants, nobody knows what there was.
        assert_eq!(at.said(&[app], &[], false), "nothing");
    }
}

#[test]
fn a_symbol_and_a_version_that_a_library_no_longer_has_are_told() {
    let at = Workshop::new();
    let plain = at.library("libx.so.1", LIBRARY, &[]);
    let program = at.program(PROGRAM, &["-l:libx.so.1"]);
    let user = at.library("liby.so.1", "int x_one(void); int y(void) { return x_one(); }\n", &["-l:libx.so.1"]);
    let without = at.library("libx.so.1", "int x_two(void) { return 2; }\n", &[]);
    let newer = at.versioned("X_2");
    let versioned = at.program(PROGRAM, &["-l:libx.so.1"]);
    let older = at.versioned("X_1");
    for format in FORMATS {
        let app = at.package(format, "app", &[("/usr/bin/app", &program)]);
        let liby = at.package(format, "liby", &[("/usr/lib/liby.so.1", &user)]);
        let has = |library: &[u8]| at.package(format, "libx", &[("/usr/lib/libx.so.1", library)]);
        assert_eq!(at.said(&[app.clone(), liby.clone()], &[has(&plain)], true), "nothing");
        let libx = has(&without);
        for is_whole in [true, false] {
            let said = at.said(std::slice::from_ref(&app), std::slice::from_ref(&libx), is_whole);
            assert!(said.contains("/usr/bin/app needs the symbol x_one, which none of its libraries has"), "{said}");
            let said = at.said(std::slice::from_ref(&liby), std::slice::from_ref(&libx), is_whole);
            assert!(said.contains("/usr/lib/liby.so.1 needs the symbol x_one"), "{said}");
        }
        let app = at.package(format, "app", &[("/usr/bin/app", &versioned)]);
        assert_eq!(at.said(std::slice::from_ref(&app), &[has(&newer)], true), "nothing");
        let said = at.said(&[app], &[has(&older)], true);
        assert!(said.contains("/usr/bin/app needs version X_2 of libx.so.1, which the libx.so.1 that is there does not have"), "{said}");
        assert!(said.contains("hint: it was linked with another build of libx.so.1"), "{said}");
    }
}

#[test]
fn what_only_whoever_loads_a_file_can_know_is_let_be() {
    let at = Workshop::new();
    at.library("libx.so.1", LIBRARY, &[]);
    let library = at.library("libprivate.so", LIBRARY, &[]);
    let origin = at.program(PROGRAM, &["-l:libprivate.so", "-Wl,-rpath,$ORIGIN/../lib/app"]);
    let by_script = at.program(PROGRAM, &["-l:libprivate.so"]);
    let plugin = at.library("plugin.so", "int host(void); int begin(void) { return host(); }\n", &[]);
    let lost = at.program(PROGRAM, &["-l:libx.so.1"]);
    let fixed = at.cc("fixed", "int begin(void) { return 0; }\n", &["-static", "-Wl,-e,begin"]);
    let object = at.cc("object.o", PROGRAM, &["-c"]);
    let mut foreign = lost.clone();
    // (Another machine's number, in whichever order of bytes.)
    foreign[18..20].copy_from_slice(&[0, 0]);
    for format in FORMATS {
        let app = at.package(
            format,
            "app",
            &[
                ("/usr/bin/app", &origin),
                ("/usr/bin/by-script", &by_script),
                ("/usr/bin/fixed", &fixed),
                ("/usr/lib/app/libprivate.so", &library),
                ("/usr/lib/app/plugins/plugin.so", &plugin),
                ("/usr/lib/modules/1/object.ko", &object),
                ("/usr/share/doc/app/examples/lost", &lost),
                ("/usr/lib/debug/lost", &lost),
                ("/usr/lib/app/cut", &lost[..lost.len() / 2]),
            ],
        );
        assert_eq!(at.said(std::slice::from_ref(&app), &[], true), "nothing");
        let debug = match format {
            Format::Deb => "app-dbgsym",
            Format::Rpm => "app-debuginfo",
        };
        assert_eq!(at.said(&[app, at.package(format, debug, &[("/usr/bin/lost", &lost)])], &[], true), "nothing");
        let public = at.package(format, "public", &[("/usr/lib/libplugin.so", &plugin)]);
        assert!(at.said(std::slice::from_ref(&public), &[], true).contains("/usr/lib/libplugin.so needs the symbol host"));
        // Another library that is there has it, though nobody needs that by name.
        let host = at.library("libhost.so.1", "int host(void) { return 0; }\n", &[]);
        assert_eq!(at.said(&[public], &[at.package(format, "host", &[("/usr/lib/libhost.so.1", &host)])], true), "nothing");
        let foreign = at.package(format, "foreign", &[("/usr/bin/foreign", &foreign)]);
        let mut root = PackageRoot::default();
        root.add_package(LibraryOrigin::Own("foreign".into()), File::open(foreign).expect("there"), &|_| true).expect("it unpacks");
        assert_eq!(root.faults(Machine::of("amd64"), true), []);
    }
}

#[test]
fn packages_that_are_installed_one_instead_of_the_other_are_judged_each_with_its_own_files() {
    let at = Workshop::new();
    let small = at.library("libx.so.1", LIBRARY, &[]);
    let program = at.program(PROGRAM, &["-l:libx.so.1"]);
    let large = at.library("libx.so.1", "int x_large(void) { return 1; }\n", &[]);
    let other = at.program("int x_large(void); int begin(void) { return x_large(); }\n", &["-l:libx.so.1"]);
    for format in FORMATS {
        let one = at.package(format, "one", &[("/usr/bin/app", &program), ("/usr/lib/libx.so.1", &small)]);
        let two = at.package(format, "two", &[("/usr/bin/app", &other), ("/usr/lib/libx.so.1", &large)]);
        assert_eq!(at.said(&[one, two], &[], true), "nothing");
    }
}

#[test]
fn the_packages_of_needs_hide_those_of_the_closure_and_own_ones_hide_both() {
    let at = Workshop::new();
    let linkage = |name: &str| {
        let bytes = at.library(name, LIBRARY, &[]);
        node(bytes.len() as u64, None, &mut bytes.as_slice()).expect("it is read").expect("a library")
    };
    let mut root = PackageRoot::default();
    let origins =
        [LibraryOrigin::Own("a".into()), LibraryOrigin::Base, LibraryOrigin::Needs("a".into()), LibraryOrigin::Closure("z".into())];
    for origin in &origins {
        root.add(origin, "lib/libx.so.1", linkage(&format!("{origin:?}")));
    }
    let mut seen = Vec::new();
    while let LinkageState::Is(linkage) = root.look("usr/lib/libx.so.1") {
        seen.push(linkage.soname.clone().expect("it has a name"));
        let origin = origins.iter().find(|origin| Some(&format!("{origin:?}")) == linkage.soname.as_ref()).expect("one of them");
        root.files.get_mut("usr/lib/libx.so.1").expect("it is there").remove(origin);
    }
    assert_eq!(seen, ["Own(\"a\")", "Needs(\"a\")", "Closure(\"z\")", "Base"]);
    // What a pattern names may lack something.
    at.library("libgone.so.1", LIBRARY, &[]);
    let lost = at.program(PROGRAM, &["-l:libgone.so.1"]);
    let package = at.package(Format::Deb, "app", &[("/bin/lost", &lost)]);
    root.add_package(LibraryOrigin::Own("app".into()), File::open(package).expect("there"), &|_| true).expect("it unpacks");
    root.unlinked = vec!["/usr/bin/l*".into()];
    assert_eq!(root.faults(None, true), []);
    root.unlinked = vec!["/usr/bin/x*".into()];
    assert_eq!(root.faults(None, true).len(), 2, "a library and the linker");
}

#[test]
fn the_base_is_read_as_an_engine_gives_its_folders() {
    let at = Workshop::new();
    let library = at.library("libx.so.1", LIBRARY, &[]);
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |kind, path: &str, link: &str, content: &[u8]| {
        let mut header = crate::source::header(0);
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        if !link.is_empty() {
            header.set_link_name(link).expect("a short one");
        }
        tar.append_data(&mut header, path, content).expect("into memory");
    };
    add(tar::EntryType::Regular, "lib/x/libx.so.1.0", "", &library);
    add(tar::EntryType::Symlink, "lib/x/libx.so.1", "libx.so.1.0", b"");
    add(tar::EntryType::Link, "lib/y/libx.so.1", "lib/x/libx.so.1.0", b"");
    add(tar::EntryType::Regular, "lib/text.so", "", b"INPUT(x)");
    let mut base = BaseLibraries::default();
    read_base(&tar.into_inner().expect("finished")[..], "/usr/lib", &mut base).expect("it is read");
    let mut root = PackageRoot::default();
    root.add_base(&base);
    for path in ["lib/x/libx.so.1", "usr/lib/x/libx.so.1", "usr/lib/y/libx.so.1"] {
        assert_eq!(root.real(path).as_deref(), Some("usr/lib/x/libx.so.1.0"), "{path}");
    }
    assert_eq!(root.real("usr/lib/text.so"), None);
    root.add(&LibraryOrigin::Own("a".into()), "usr/lib/loop.so", RootNode::Link("loop.so".into()));
    assert_eq!(root.real("usr/lib/loop.so"), None);
}

/// What is told of own packages' libraries, beside packages of a lock, those of them that the pool has, and a base's library.
fn lost(own: &[PathBuf], locked: &[(&str, &str, &PathBuf)], pool: &[&PathBuf], base: Option<&[u8]>, format: Format) -> Vec<String> {
    let mut root = PackageRoot::default();
    for path in own {
        root.add_package(LibraryOrigin::Own(file_name(path)), File::open(path).expect("there"), &|_| true).expect("it unpacks");
    }
    if let Some(mut bytes) = base {
        let state = node(bytes.len() as u64, None, &mut bytes).expect("it is read").expect("a library");
        root.add(&LibraryOrigin::Base, "lib/libx.so.1", state);
    }
    let digest = |path: &Path| Sha256::of(path.to_string_lossy().as_bytes());
    let arch = if format == Format::Deb { "amd64" } else { "x86_64" };
    let packages = locked.iter().map(|(name, version, path)| twostage_model::lock::LockedPackage {
        id: format.id(name, version, arch).expect("a package"),
        size: 1,
        sha256: digest(path),
        origin: "Debian".into(),
    });
    let closure = Closure { base: Sha256::of(b""), asked: Vec::new(), own: Vec::new(), packages: packages.collect() };
    let lock = twostage_model::lock::Lock { closures: BTreeMap::from([("runtime:app".into(), closure)]), ..Default::default() };
    let sink = Folder(pool.iter().map(|path| (digest(path), path.to_path_buf())).collect());
    let events = lost::lost_symbols_of("app", &sink, &root, &Originals::of(&root, &lock, format)).expect("they unpack");
    events.iter().map(|event| serde_json::to_string(event).expect("JSON")).collect()
}

#[test]
fn symbols_are_told_that_a_rebuilt_library_lacks_and_the_distributions_package_of_that_name_has() {
    let at = Workshop::new();
    let whole = at.library("libx.so.1", "int x_one(void) { return 1; } int x_two(void) { return 2; }\n", &[]);
    let less = at.library("libx.so.1", LIBRARY, &[]);
    let other = at.library("libx.so.2", LIBRARY, &[]);
    for format in FORMATS {
        let package = |name: &str, library: &[u8]| at.package(format, name, &[("/usr/lib/libx.so.1", library)]);
        let theirs = at.0.path().join("theirs");
        std::fs::rename(package("libx", &whole), &theirs).expect("moved");
        let own = [package("libx", &less)];
        let locked = [("libx", "1-1", &theirs)];
        let told = lost(&own, &locked, &[&theirs], None, format);
        let (arch, file) = match format {
            Format::Deb => ("amd64", "libx_1_all.deb"),
            Format::Rpm => ("x86_64", "libx-1-1.noarch.rpm"),
        };
        let said = format!(
            "{{\"event\":\"symbols-lost\",\"subject\":\"app\",\"package\":\"{file}\",\"library\":\"/usr/lib/libx.so.1\",\
             \"original\":\"libx 1-1 {arch}\",\"count\":1,\"symbols\":[\"x_two\"]}}"
        );
        assert_eq!(told, [said]);
        // Nothing is known of what the pool does not have, nor of a package of another name.
        assert_eq!(lost(&own, &locked, &[], None, format), [""; 0]);
        assert_eq!(lost(&own, &[("liby", "1-1", &theirs)], &[&theirs], None, format), [""; 0]);
        // The newest one that is locked counts.
        let older = at.0.path().join("older");
        std::fs::rename(package("libx", &less), &older).expect("moved");
        let own = [package("libx", &less)];
        for (version, is_told) in [("1-0", true), ("1-2", false)] {
            let locked = [("libx", "1-1", &theirs), ("libx", version, &older)];
            assert_eq!(lost(&own, &locked, &[&theirs, &older], None, format).is_empty(), !is_told, "{version}");
        }
        // The same, and more, is nothing; neither is another library, nor a plugin of that name.
        assert_eq!(lost(&[package("libx", &whole)], &locked, &[&theirs], None, format), [""; 0]);
        assert_eq!(lost(&[at.package(format, "libx", &[("/usr/lib/libx.so.2", &other)])], &locked, &[&theirs], None, format), [""; 0]);
        let plugin = at.package(format, "libx", &[("/usr/lib/app/libx.so.1", &less)]);
        assert_eq!(lost(&[plugin], &locked, &[&theirs], None, format), [""; 0]);
    }
}

#[test]
fn symbols_of_a_library_of_the_base_are_told_and_the_first_few_are_named() {
    let at = Workshop::new();
    let many: String = (10..30).map(|number| format!("int x_{number}(void) {{ return 1; }}\n")).collect();
    let whole = at.library("libx.so.1", &many, &[]);
    let less = at.library("libx.so.1", "int x_29(void) { return 1; }\n", &[]);
    for format in FORMATS {
        // (`/lib` of the base is `/usr/lib` of the package.)
        let own = [at.package(format, "libx", &[("/usr/lib/libx.so.1", &less)])];
        let told = lost(&own, &[], &[], Some(&whole), format);
        assert!(told[0].contains("\"original\":\"the base\",\"count\":19,\"symbols\":[\"x_10\",\"x_11\","), "{told:?}");
        assert!(told[0].ends_with("\"x_17\"]}"), "{told:?}");
        assert_eq!(lost(&own, &[], &[], Some(&less), format), [""; 0]);
    }
}
