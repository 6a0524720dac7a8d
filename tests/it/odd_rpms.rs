//! Rpms with everything odd that a spec may have, in one channel: dnf and zypper read all of it, and warn of nothing.

use crate::apt::Shop;
use crate::support::{Serving, Used, run, skipped, uses};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use twostage_reposerver::{Repository, Settings};

/// One spec: what is before `%description`, in it, in `%install`, and behind `%files`.
struct Spec {
    name: String,
    head: String,
    description: String,
    install: String,
    files: String,
    version: &'static str,
    more: String,
}

impl Spec {
    fn new(name: &str) -> Spec {
        Spec {
            name: name.into(),
            head: "Summary: odd\n".into(),
            description: "One oddity.".into(),
            install: format!("mkdir -p %{{buildroot}}/usr/share/{name}; echo odd > %{{buildroot}}/usr/share/{name}/file"),
            files: format!("\"/usr/share/{name}\"\n"),
            version: "1.0",
            more: String::new(),
        }
    }

    fn text(&self) -> String {
        let Spec { name, head, description, install, files, version, more } = self;
        format!(
            "Name: {name}\nVersion: {version}\nRelease: 1\nLicense: MIT\nBuildArch: noarch\n{head}\n%description\n{description}\n\n\
             %install\n{install}\n\n%files\n{files}\n{more}\n"
        )
    }
}

/// A text that rpm's Lua prints, so that it may have any byte.
fn lua(expression: &str) -> String {
    format!("%{{lua: print({expression})}}")
}

fn specs() -> Vec<Spec> {
    let with = |name: &str, change: &dyn Fn(&mut Spec)| {
        let mut spec = Spec::new(name);
        change(&mut spec);
        spec
    };
    let all_bytes = r#"(function() local t = {} for i = 1, 255 do if i ~= 10 and i ~= 13 then t[#t + 1] = string.char(i) end end return table.concat(t) end)()"#;
    let mut specs = vec![
        with("odd-plain", &|_| ()),
        with("odd-escape", &|s| s.description = lua(r#""\27[31mred\27[0m \7 \8""#)),
        with("odd-nel", &|s| s.description = lua(r#""a\194\133b\194\160c\226\128\168d""#)),
        with("odd-noncharacter", &|s| s.description = lua(r#""a\239\191\190b\239\191\191c""#)),
        with("odd-latin1", &|s| s.head = format!("Summary: {}\n", lua(r#""caf\233""#))),
        with("odd-bytes", &|s| s.description = lua(all_bytes)),
        with("odd-surrogate", &|s| s.description = lua(r#""\237\160\128 \244\144\128\128""#)),
        with("odd-markup", &|s| {
            s.head = "Summary: <b>]]>&amp;&#0;\"'\nURL: https://example.org/?a=b&c=\"d\"<e>\nVendor: A & B <c@example.org>\n".into();
            s.description = "</description></package><!-- x --> <![CDATA[ %% ]]> &odd;".into();
        }),
        with("odd-long-text", &|s| s.description = lua(r#"string.rep("word ", 400000)"#)),
        with("odd-long-line", &|s| s.head = format!("Summary: {}\n", lua(r#"string.rep("x", 100000)"#))),
        with("odd-empty", &|s| {
            s.install = "mkdir -p %{buildroot}".into();
            s.files.clear();
        }),
        with("odd-ghosts", &|s| {
            s.install = "mkdir -p %{buildroot}/var/lib/odd-ghosts; touch %{buildroot}/var/lib/odd-ghosts/a".into();
            s.files = "%ghost /var/lib/odd-ghosts/a\n%ghost %dir /var/lib/odd-ghosts\n".into();
        }),
        with("odd-names", &|s| {
            s.install = "mkdir -p \"%{buildroot}/usr/share/odd-names\"; cd \"%{buildroot}/usr/share/odd-names\"\n\
                printf x > 'a b'; printf x > 'a+b%%20#?&<>;$(x)'; printf x > '\"quoted\"'; printf x > \"it's\"; printf x > 'ünï'\n\
                printf x > \"$(printf 'caf\\351')\"; printf x > ./-rf"
                .into();
        }),
        with("odd-many-files", &|s| {
            s.install = "mkdir -p %{buildroot}/usr/share/odd-many-files; cd %{buildroot}/usr/share/odd-many-files\n\
                i=0; while [ $i -lt 3000 ]; do : > file-$i; i=$((i + 1)); done"
                .into();
        }),
        with("odd-version", &|s| {
            s.version = "1.0~rc1^git20240101.abc";
            s.head.push_str("Epoch: 4294967295\n");
        }),
        with("odd-requires", &|s| {
            s.head.push_str(&format!("Requires: {}\n", lua(r#"string.rep("(a and ", 90) .. "b" .. string.rep(")", 90)"#)));
            s.head.push_str("Requires: (bash or zsh)\nRequires: (a if b else c)\nRequires: zero = 0:1.0-1\n");
            s.head.push_str("Recommends: rec > 1\nSuggests: (sug with sug2)\nSupplements: (sup and langpacks-cs)\nEnhances: enh < 3:2\n");
        }),
        with("odd-provides", &|s| {
            s.head.push_str("Provides: virt = 2:3.0-1\nProvides: foo(bar:baz)(64bit)\nProvides: dup = 1\nProvides: dup = 1\n");
            s.head.push_str("Provides: less < 1\nProvides: user(odd)\nProvides: /usr/bin/odd\nProvides: a\"b&c<d\nConflicts: odd-provides < 1\nObsoletes: odd-provides < 1\n");
            let _ = writeln!(s.head, "Provides: {}", lua(r#"string.rep("p", 5000)"#));
        }),
        with("odd-many-provides", &|s| {
            s.head.push_str(&lua(r#"(function() local t = {} for i = 1, 5000 do t[i] = "Provides: odd-p" .. i .. " = " .. i end return table.concat(t, "\n") .. "\n" end)()"#))
        }),
        with("odd-changelog", &|s| {
            s.more = "%changelog\n".into();
            for n in 0..2000 {
                let _ =
                    writeln!(s.more, "* Mon Jan 01 2024 Ünï <b>\"&\" <u@example.org> - 1.0-{n}\n- change {n} & <more>\n  \"continued\"\n");
            }
        }),
        with("odd-change", &|s| {
            s.more = format!("%changelog\n* Mon Jan 01 2024 A <a@example.org>\n- {}\n", lua(r#"string.rep("x", 3000000)"#));
        }),
        with("odd-scripts", &|s| {
            s.more = "%post -p <lua>\nprint(\"x\")\n%pretrans -p <lua>\nprint(\"y\")\n%filetriggerin -- /usr/lib\ntrue\n\
                %transfiletriggerin -P 100000 -- /usr/bin\ntrue\n%triggerin -- bash > 1\ntrue\n%verifyscript\ntrue\n"
                .into();
        }),
        with("odd-labels", &|s| {
            s.head.push_str("ModularityLabel: a:b:1:c\nGroup: Some/Group\nPackager: P <p@example.org>\nDistTag: odd\n")
        }),
    ];
    specs.push(with(&format!("odd-{}", "n".repeat(190)), &|_| ()));
    specs
}

/// Builds all of them with rpmbuild.
fn build(folder: &Path) -> usize {
    let (specs, rpms) = (specs(), folder.join("rpms"));
    for spec in &specs {
        let path = folder.join("odd.spec");
        fs::write(&path, spec.text()).expect("a spec");
        let [top, out] = ["top", "rpms"].map(|name| folder.join(name).display().to_string());
        let defines = [
            format!("_topdir {top}"),
            format!("_rpmdir {out}"),
            "_rpmfilename %%{NAME}.rpm".into(),
            "_invalid_encoding_terminates_build 0".into(),
        ];
        let mut command = std::process::Command::new("rpmbuild");
        for define in &defines {
            command.args(["--define", define]);
        }
        let done = run(command.args(["-bb", "--quiet", "--nocheck"]).arg(&path).env("LC_ALL", "C.UTF-8"));
        assert!(rpms.join(format!("{}.rpm", spec.name)).is_file(), "{}: {}", spec.name, done.err);
    }
    specs.len()
}

const MODULES: &str = "---\ndocument: modulemd\nversion: 2\ndata:\n  name: odd\n  stream: \"1\"\n  version: 1\n  context: c\n  arch: noarch\n  \
    summary: s\n  description: d\n  license:\n    module: [MIT]\n...\n";
const GROUPS: &str = "<?xml version=\"1.0\"?>\n<comps><group><id>odd</id><name>Odd &amp; even</name><description/><packagelist>\
    <packagereq type=\"mandatory\">odd-plain</packagereq></packagelist></group></comps>\n";
const ADVISORIES: &str = "<updates><update from=\"a\" status=\"final\" type=\"security\" version=\"1\"><id>A-1</id><title>&lt;odd&gt;</title>\
    <issued date=\"2026-01-01 00:00:00\"/><references/><pkglist/></update></updates>\n";

#[test]
fn dnf_and_zypper_read_a_channel_of_odd_rpms_without_a_word() {
    let folder = tempfile::Builder::new().prefix("odd-rpms").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let built = build(folder.path());
    let shop = Shop::new("odd-rpms");
    let repository = Repository::open(&folder.path().join("repository"), Settings::new("odd")).expect("a repository");
    for entry in fs::read_dir(folder.path().join("rpms")).expect("the rpms").flatten() {
        let taken = repository.ingest_file(&entry.path());
        assert!(taken.is_ok(), "rpmbuild makes nothing that clients cannot read: {taken:?}");
    }
    let extras = [("modules.yaml", MODULES), ("comps.xml", GROUPS), ("updateinfo.xml", ADVISORIES)].map(|(name, text)| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    });
    run(shop.command(&["publish"]).arg(folder.path().join("rpms")).args(&extras)).ok();

    let serving = Serving::of(shop.path());
    let client_file = String::from_utf8(serving.get("/main.repo")).expect("text");
    for (used, script) in [(Used::Dnf, DNF), (Used::Zypper, ZYPPER)] {
        if used == Used::Zypper && !rustix::process::geteuid().is_root() {
            skipped("zypper refreshes for root only");
            continue;
        }
        uses(used);
        let place = tempfile::tempdir().expect("a folder");
        fs::write(place.path().join("main.repo"), &client_file).expect("a file");
        let mut command = std::process::Command::new("sh");
        for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        let done = run(command.args(["-euc", script]).env("LC_ALL", "C.UTF-8").env("HOME", place.path()).current_dir(place.path())).ok();
        let known: BTreeSet<&str> = done.out.lines().filter_map(|line| line.strip_prefix("known ")).collect();
        assert_eq!(known.len(), built, "{known:?}\n{}{}", done.out, done.err);
        let said = format!("{}\n{}", done.out, done.err);
        let complaint = |line: &&str| ["error", "warning", "failed", "invalid"].iter().any(|word| line.to_lowercase().contains(word));
        let complaints: Vec<&str> = said.lines().filter(|line| !line.starts_with("known ")).filter(complaint).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

/// dnf in folders of its own, with the client file and nothing of this machine.
const DNF: &str = "
    mkdir repos root cache log persist vars; mv main.repo repos; echo '[main]' > dnf.conf
    ask() {
        dnf -y --installroot $PWD/root -c $PWD/dnf.conf --setopt=reposdir=$PWD/repos --setopt=cachedir=$PWD/cache --setopt=logdir=$PWD/log \
            --setopt=persistdir=$PWD/persist --setopt=varsdir=$PWD/vars --setopt=module_platform_id=platform:odd1 --releasever=1 --forcearch=x86_64 \"$@\"
    }
    ask makecache
    ask -q repoquery --qf 'known %{name}'
    ask -q group list > groups
    ask -q updateinfo list > advisories
    ask -q repoquery --changelogs odd-changelog > changes";

/// zypper in a root of its own.
const ZYPPER: &str = "
    mkdir -p root/etc/zypp/repos.d; mv main.repo root/etc/zypp/repos.d
    zypper --root $PWD/root --non-interactive --gpg-auto-import-keys refresh
    zypper --root $PWD/root --non-interactive --no-refresh --xmlout search --type package |
        sed -n 's/.*<solvable .*name=\"\\([^\"]*\\)\".*/known \\1/p'";

/// Each of these makes dnf abort, or zypper give up the repository, when it is passed on.
#[test]
fn what_would_stop_dnf_or_zypper_is_not_passed_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let shop = Shop::new("odd-extras");
    for (name, text, reason) in [
        ("modules.yaml", "document: odd\nversion: 2\ndata:\n  name: x\n", "of the kind \"odd\""),
        ("modules.yaml", "---\ndocument: modulemd\nversion: 2\ndata: {x\n", "it is no YAML"),
        ("modules.yaml", "# document: x\n- a\n", "no mapping"),
        ("updateinfo.xml", "<updates><update>\n", "ends inside"),
        ("updateinfo.xml", "<updates><update><title>x & y</title></update></updates>\n", "not well-formed"),
        ("comps.xml", "<comps><group><id>a</group></comps>\n", "not well-formed"),
        ("comps.xml", "<!DOCTYPE comps [<!ENTITY a \"b\">]><comps>&a;</comps>", "document type"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        run(shop.command(&["publish"]).arg(&path)).fails_with(5).says(reason);
    }
    assert!(!shop.path().join(".twostage/repository/channels/main.json").exists());
}
