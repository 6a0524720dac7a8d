//! Whether the programs of an image find what they need: layers with real programs, small ones without a C library.

use crate::support::{Tar, audited, config_with, docker_old_with};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;
use twostage_image::{Base, Known, Report};

/// What the compiler makes, by name.
fn compiled(name: &str) -> &'static [u8] {
    static MADE: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    let all = MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let mut made = BTreeMap::new();
        let mut cc = |name: &str, source: &str, words: &[&str]| {
            std::fs::write(dir.path().join("x.c"), source).unwrap();
            let all = ["-nostdlib", "-fPIC", "-fno-stack-protector", "-o", name, "x.c"];
            let done =
                Command::new("cc").current_dir(dir.path()).args(all).args(words).output().expect("cc: apt-get install gcc libc6-dev");
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            made.insert(name.to_string(), std::fs::read(dir.path().join(name)).unwrap());
        };
        cc("ld.so", "int linker(void) { return 0; }", &["-shared", "-Wl,-soname,ld.so"]);
        cc("libx.so", "int one(void) { return 1; } int two(void) { return 2; }", &["-shared", "-Wl,-soname,libx.so.1"]);
        cc("libx-one.so", "int one(void) { return 1; }", &["-shared", "-Wl,-soname,libx.so.1"]);
        cc("plugin.so", "int one(void), two(void); int plugin(void) { return one() + two(); }", &["-shared", "libx.so"]);
        cc("program", "int one(void), two(void); void _start(void) { one(); two(); }", &["-Wl,--dynamic-linker=/lib/ld.so", "libx.so"]);
        made
    });
    all.get(name).unwrap()
}

/// A base, and a layer above it.
fn report_of(base: Tar, top: Tar, env: &str, unlinked: &[&str]) -> Report {
    let layers = [base.done(), top.done()];
    let config = config_with(&layers, &format!(r#""Env":[{env}]"#));
    let known = Known { unlinked: unlinked.iter().map(ToString::to_string).collect(), ..Known::default() };
    audited(&docker_old_with(&layers, &config), Base::Layers(1), &known).unwrap_or_else(|e| panic!("{e}"))
}

fn faults(base: Tar, top: Tar) -> Vec<(String, String)> {
    listed(&report_of(base, top, "", &[]))
}

fn listed(report: &Report) -> Vec<(String, String)> {
    report.linking.faults.iter().map(|fault| (fault.at.clone(), fault.reason.clone())).collect()
}

fn linker() -> Tar {
    Tar::new().symlink("lib", "usr/lib").dir("usr/lib").dir("usr/bin").file("usr/lib/ld.so", compiled("ld.so"))
}

fn fault(at: &str, reason: &str) -> Vec<(String, String)> {
    vec![(at.into(), reason.into())]
}

const LACKS_TWO: &str = "nothing that it loads has 1 symbol that it needs: two";

#[test]
fn a_program_finds_the_libraries_of_the_base_and_of_its_layer() {
    let program = || Tar::new().file("usr/bin/program", compiled("program"));
    let lib = |tar: Tar, name: &str| tar.file("usr/lib/libx.so.1", compiled(name));
    assert_eq!(faults(lib(linker(), "libx.so"), program()), []);
    assert_eq!(faults(linker(), lib(program(), "libx.so")), []);
    assert_eq!(faults(lib(linker(), "libx.so"), lib(program(), "libx-one.so")), fault("/usr/bin/program", LACKS_TWO));
    assert_eq!(faults(linker(), program()), fault("/usr/bin/program", "it needs libx.so.1, which is not there"));
    let without_linker = Tar::new().file("usr/lib/libx.so.1", compiled("libx.so"));
    assert_eq!(faults(without_linker, program()), fault("/usr/bin/program", "its dynamic linker /lib/ld.so is not there"));
}

#[test]
fn links_and_second_names_lead_to_libraries() {
    let program = || Tar::new().file("usr/bin/program", compiled("program"));
    let real = || program().file("usr/lib/libx.so.1.0", compiled("libx.so"));
    assert_eq!(faults(linker(), real().symlink("usr/lib/libx.so.1", "libx.so.1.0")), []);
    assert_eq!(faults(linker(), real().symlink("usr/lib/libx.so.1", "/lib/libx.so.1.0")), []);
    assert_eq!(faults(linker(), real().hardlink("usr/lib/libx.so.1", "usr/lib/libx.so.1.0")), []);
    let dangling = program().symlink("usr/lib/libx.so.1", "gone");
    assert_eq!(faults(linker(), dangling), fault("/usr/bin/program", "it needs libx.so.1, which is not there"));
}

#[test]
fn folders_are_those_of_the_linkers_configuration_and_of_the_variable() {
    let private = || Tar::new().file("usr/bin/program", compiled("program")).file("opt/x/libx.so.1", compiled("libx.so"));
    let elsewhere = "it needs libx.so.1, which is only at /opt/x/libx.so.1, where the linker does not look";
    assert_eq!(faults(linker(), private()), fault("/usr/bin/program", elsewhere));
    let base = || linker().file("etc/ld.so.conf", "include ld.so.conf.d/*.conf\n");
    assert_eq!(faults(base(), private().file("etc/ld.so.conf.d/x.conf", "/opt/x\n")), []);
    assert_eq!(listed(&report_of(linker(), private(), r#""LD_LIBRARY_PATH=/y:/opt/x""#, &[])), []);
}

#[test]
fn what_the_base_lacks_is_not_said_of_the_layer_above_it_but_what_that_takes_away_is() {
    let whole = || linker().file("usr/bin/program", compiled("program")).file("usr/lib/libx.so.1", compiled("libx.so"));
    let broken = || linker().file("usr/bin/program", compiled("program")).file("usr/lib/libx.so.1", compiled("libx-one.so"));
    assert_eq!(faults(whole(), Tar::new().file("etc/x", "x")), []);
    assert_eq!(faults(broken(), Tar::new().file("etc/x", "x")), []);
    assert_eq!(faults(broken(), Tar::new().file("usr/lib/libx.so.1", [compiled("libx-one.so"), b"more"].concat())), []);
    let lost = fault("/usr/bin/program", LACKS_TWO);
    assert_eq!(faults(whole(), Tar::new().file("usr/lib/libx.so.1", compiled("libx-one.so"))), lost);
    let gone = fault("/usr/bin/program", "it needs libx.so.1, which is not there");
    assert_eq!(faults(whole(), Tar::new().file("usr/lib/.wh.libx.so.1", "")), gone);
}

/// Packages have plugins for what they only recommend. Only those that the project makes, or that load what it makes, are to
/// find what they need.
#[test]
fn a_plugin_of_others_may_lack_what_it_needs_but_not_one_of_the_project() {
    let status = |name: &str| format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n");
    let list = |paths: &[&str]| paths.iter().map(|path| format!("/{path}\n")).collect::<String>();
    let top = || {
        Tar::new()
            .file("var/lib/dpkg/status", status("libx") + &status("plug"))
            .file("var/lib/dpkg/info/libx.list", list(&["usr/lib/libx.so.1"]))
            .file("var/lib/dpkg/info/plug.list", list(&["usr/lib/plug/plugin.so"]))
            .file("usr/lib/libx.so.1", compiled("libx-one.so"))
            .file("usr/lib/plug/plugin.so", compiled("plugin.so"))
    };
    let report = |own: &[&str]| {
        let layers = [linker().done(), top().done()];
        let known = Known { own: own.iter().map(ToString::to_string).collect(), ..Known::default() };
        audited(&docker_old_with(&layers, &config_with(&layers, "")), Base::Layers(1), &known).unwrap_or_else(|e| panic!("{e}"))
    };
    for own in [&[][..], &["another"]] {
        let report = report(own);
        assert_eq!(listed(&report), [], "{own:?}");
        assert_eq!(report.linking.plugins[0].at, "/usr/lib/plug/plugin.so");
        let text = report.to_text();
        assert!(text.contains("nothing is missing; 1 plugin cannot be loaded (--json says why)\n"), "{text}");
    }
    for own in ["libx", "plug"] {
        assert_eq!(listed(&report(&[own])), fault("/usr/lib/plug/plugin.so", LACKS_TWO), "{own} is ours");
    }
}

#[test]
fn a_report_says_it_and_what_may_be_missing_is_no_fault() {
    let top = || Tar::new().file("usr/bin/program", compiled("program")).file("usr/lib/libx.so.1", compiled("libx-one.so"));
    let text = report_of(linker(), top(), "", &[]).to_text();
    let said = format!("linking: 2 programs and libraries, 1 fault\n    /usr/bin/program: {LACKS_TWO}\n");
    assert!(text.contains(&said), "{text}");
    let text = report_of(linker(), top(), "", &["/usr/bin/prog*"]).to_text();
    assert!(text.contains("linking: 2 programs and libraries, nothing is missing; 1 piece of what may be missing is\n"), "{text}");
}
