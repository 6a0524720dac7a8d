//! Real dnf and zypper in containers: what a person does with `/<channel>.repo`, and what they do
//! when a byte of what they are sent is another, or a package bears no signature.

use crate::clients::{Armored, Client, Container, Proxy, others, spread_by};
use crate::support::{Family, Serving, Used, docker, long, root, rpm_bases, run, shared_build, step, tool, uses};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    Dnf,
    Dnf5,
    Zypper,
}

impl Manager {
    fn name(self) -> &'static str {
        match self {
            Manager::Dnf => "dnf",
            Manager::Dnf5 => "dnf5",
            Manager::Zypper => "zypper",
        }
    }

    /// Where it takes the key from: as the client file says, or from beside `repomd.xml`.
    fn key(self) -> &'static str {
        match self {
            Manager::Dnf | Manager::Dnf5 => "/key.asc",
            Manager::Zypper => "/repodata/repomd.xml.key",
        }
    }

    fn uses(self) {
        uses(Used::Engine);
        uses(match self {
            Manager::Dnf | Manager::Dnf5 => Used::Dnf,
            Manager::Zypper => Used::Zypper,
        });
    }

    /// The stand-in distribution that has it: what images start from, and what builds packages.
    pub fn bases(self) -> [PathBuf; 2] {
        static MADE: [OnceLock<()>; 3] = [const { OnceLock::new() }; 3];
        let folder = rpm_bases();
        let prefix = match self {
            Manager::Dnf => String::new(),
            other => format!("{}-", other.name()),
        };
        MADE[self as usize].get_or_init(|| {
            if self != Manager::Dnf {
                run(Command::new(root().join("examples/hello-rpm/base.sh")).arg(format!("--{}", self.name())).arg(folder)).ok();
            }
        });
        ["base", "builder"].map(|name| folder.join(format!("{prefix}{name}.tar")))
    }

    /// The same two in the engine, under the names that a project's bases have.
    pub fn images(self) -> &'static [String; 2] {
        static IMAGES: [OnceLock<[String; 2]>; 3] = [const { OnceLock::new() }; 3];
        IMAGES[self as usize].get_or_init(|| {
            self.bases().map(|tar| {
                let digest = tool("sha256sum", &[&tar.to_string_lossy()]).ok().out;
                let image = format!("twostage-base:{}", &digest[..12]);
                if docker(&["image", "inspect", &image]).status != 0 {
                    docker(&["import", "--change", "CMD [\"/bin/sh\"]", &tar.to_string_lossy(), &image]).ok();
                }
                image
            })
        })
    }

    fn container(self, folders: &[&Path]) -> Container {
        Container::of_image(&self.images()[0], folders)
    }

    /// Runs a client for each of the jobs (see `tests/tools/install_each_rpm.sh`).
    fn clients(self, container: &Container, server: &str, jobs: &[String]) -> Vec<Client> {
        container.clients_of(&["/tools/install_each_rpm.sh", self.name(), &format!("http://{server}")], jobs)
    }
}

#[test]
fn dnf_installs_from_the_client_file() {
    installs(
        Manager::Dnf,
        "rm -f /etc/yum.repos.d/*
         dnf config-manager --add-repo SERVER/main.repo
         dnf makecache
         dnf --assumeyes install greet",
    );
}

/// (Debian's rpm 6 gives each script mounts of its own, which needs more rights than a container has.)
#[test]
fn dnf5_installs_from_the_client_file() {
    installs(
        Manager::Dnf5,
        "echo '%__transaction_unshare %{nil}' > /root/.rpmmacros
         rm -f /etc/yum.repos.d/*
         dnf5 config-manager addrepo --from-repofile=SERVER/main.repo
         dnf5 --assumeyes makecache
         dnf5 --assumeyes install greet",
    );
}

#[test]
fn zypper_installs_from_the_client_file() {
    installs(
        Manager::Zypper,
        "rm -f /etc/zypp/repos.d/*
         zypper --non-interactive addrepo SERVER/main.repo
         zypper --non-interactive --gpg-auto-import-keys refresh
         zypper --non-interactive install greet",
    );
}

#[test]
fn dnf_installs_from_a_snapshots_client_file() {
    let script = "rm -f /etc/yum.repos.d/*
         dnf config-manager --add-repo SERVER/SNAPSHOT.repo
         dnf --assumeyes install greet";
    installs(Manager::Dnf, script);
}

#[test]
fn zypper_installs_from_a_snapshots_client_file() {
    let script = "rm -f /etc/zypp/repos.d/*
         zypper --non-interactive addrepo SERVER/SNAPSHOT.repo
         zypper --non-interactive --gpg-auto-import-keys install greet";
    if long() {
        installs(Manager::Zypper, script);
    }
}

#[test]
fn dnf_refuses_a_flipped_byte_in_whatever_it_fetches() {
    refuses_flips(Manager::Dnf);
}

#[test]
fn zypper_refuses_a_flipped_byte_in_whatever_it_fetches() {
    refuses_flips(Manager::Zypper);
}

#[test]
fn dnf_refuses_a_package_without_a_signature() {
    refuses_unsigned(Manager::Dnf, "not signed");
}

#[test]
fn zypper_refuses_a_package_without_a_signature() {
    refuses_unsigned(Manager::Zypper, "not signed");
}

#[test]
fn dnf_refuses_metadata_without_a_signature() {
    refuses_unsigned_metadata(Manager::Dnf);
}

#[test]
fn zypper_refuses_metadata_without_a_signature() {
    refuses_unsigned_metadata(Manager::Zypper);
}

/// `examples/hello-rpm`, which this chapter only reads.
fn built() -> &'static Path {
    shared_build(Family::Rpm)
}

/// The snapshot that its channel is at.
fn snapshot() -> String {
    let channel = fs::read(built().join(".twostage/repository/channels/main.json")).expect("a channel");
    let channel: serde_json::Value = serde_json::from_slice(&channel).expect("twostage writes JSON");
    channel["snapshot"].as_str().expect("a snapshot").to_string()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

/// With nothing but our client file, which asks for both checks.
fn installs(manager: Manager, script: &str) {
    manager.uses();
    let serving = Serving::of(built());
    let client_file = String::from_utf8(serving.get("/main.repo")).expect("text");
    for check in ["\ngpgcheck=1\n", "\nrepo_gpgcheck=1\n"] {
        assert!(client_file.contains(check), "{client_file}");
    }
    let container = manager.container(&[]);
    let script = format!(
        "set -eu
         {}
         echo \"it says: $(greet)\"
         rpm -V greet libgreet inih
         rpm -q --qf 'signed %{{NAME}} %{{RSAHEADER:pgpsig}}\\n' greet libgreet inih",
        script.replace("SERVER", &format!("http://{}", serving.address)).replace("SNAPSHOT", &format!("@{}", snapshot()))
    );
    let done = container.exec(&["sh", "-c", &script]).ok();
    assert!(done.out.contains("it says: Hello, stranger!"), "{}", done.out);
    assert_eq!(done.out.lines().filter(|line| line.starts_with("signed ") && line.contains("Key ID")).count(), 3, "{}", done.out);
    let fetched = serving.fetched();
    for ending in [manager.key(), "/repodata/repomd.xml", "/repodata/repomd.xml.asc", "-primary.xml.gz"] {
        assert!(fetched.iter().any(|target| target.ends_with(ending)), "{ending}: {fetched:?}");
    }
    assert_eq!(fetched.iter().filter(|target| target.ends_with(".rpm")).count(), 3, "greet and two libraries: {fetched:?}");
}

/// One bit is flipped at many places of every file that a client fetched, one at a time, each time
/// for a client that knows nothing yet.
///
/// `repomd.xml`, and what is named by digest from there, is refused at every place, and so is the
/// public key itself, and of the signature what is hashed and RSA's number ([`Armored`]). Nothing vouches for the
/// rest: the client file, the key's name and self-signature, the armor. A client that does install with a flip there
/// gets the very same packages.
fn refuses_flips(manager: Manager) {
    manager.uses();
    let (started, step) = (std::time::Instant::now(), step(5));
    let spread = spread_by(step);
    let name = manager.name();
    let serving = Serving::of(built());
    let variants = folder();
    let variants = variants.path();
    let container = manager.container(&[variants]);
    let plain = String::from_utf8(serving.get("/main.repo")).expect("a client file is text");
    // The client file, as the server would write it if it were the one that clients ask.
    let client_file = |server: &str, name: &str| {
        let file = variants.join(name);
        fs::write(&file, plain.replace(&serving.address, server)).expect("a client file");
        file.to_string_lossy().into_owned()
    };

    // What a client fetches, by the access log.
    let nothing = Proxy::of(&serving.address, &[]);
    let clean = manager.clients(&container, &nothing.address, &[format!("pass {} greet clean", client_file(&nothing.address, "clean"))]);
    assert!(clean[0].verdict == "taken" && clean[0].digests.len() == 3, "{clean:?}");
    let genuine = clean[0].digests.clone();
    let targets: Vec<String> = serving.fetched().into_iter().filter(|target| target != "/main.repo").collect();
    for ending in [manager.key(), "/repomd.xml", "/repomd.xml.asc", "-primary.xml.gz", ".rpm"] {
        assert!(targets.iter().any(|target| target.ends_with(ending)), "{targets:?}");
    }
    let proxy = Proxy::of(&serving.address, &targets.iter().map(String::as_str).collect::<Vec<_>>());
    let file = client_file(&proxy.address, "main.repo");

    let mut jobs = Vec::new();
    // Where in each target the bytes are that nothing vouches for.
    let mut loose: Vec<Vec<Range<usize>>> = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        let body = serving.get(target);
        let length = body.len();
        let (count, free) = if target.ends_with(manager.key()) {
            let key = public_key_lines(&String::from_utf8(body).expect("armor is text"));
            (16, vec![0..key.start, key.end..length])
        } else if target.ends_with(".asc") {
            (24, others(length, &Armored::of(&body).strict))
        } else if target.ends_with("/repomd.xml") {
            (24, Vec::new())
        } else {
            (8, Vec::new())
        };
        jobs.extend(spread(0, length, count).iter().map(|at| format!("flip-{index}-{at} {file} greet {index}:{at}")));
        loose.push(free);
    }
    let flips_in_transit = jobs.len();
    // And in the client file itself, which each such client has as a file of its own.
    let genuine_file = fs::read(&file).expect("the client file");
    for at in spread(0, genuine_file.len(), 24) {
        let mut changed = genuine_file.clone();
        changed[at] ^= 1;
        let changed_file = variants.join(format!("flipped-{at}"));
        fs::write(&changed_file, changed).expect("a client file");
        jobs.push(format!("pass {} greet {}:{at}", changed_file.display(), targets.len()));
    }
    loose.push(std::iter::once(0..genuine_file.len()).collect());
    let clients = manager.clients(&container, &proxy.address, &jobs);
    assert_eq!(clients.len(), jobs.len(), "every client has come to an end");

    let mut wrong = String::new();
    let (mut refused, mut same) = (0, BTreeMap::new());
    for client in &clients {
        let (index, at) = client.place();
        let target = targets.get(index).map_or("/main.repo", String::as_str);
        let strict = !loose[index].iter().any(|range| range.contains(&at));
        if client.verdict == "refused" {
            refused += 1;
        } else if strict || client.digests != genuine {
            let _ = writeln!(wrong, "{target} byte {at}: taken: {client:?}");
        } else {
            same.entry(target).or_insert_with(Vec::new).push(at);
        }
    }
    assert!(wrong.is_empty(), "{name}\n{wrong}");
    let flipped: usize = String::from_utf8_lossy(&crate::support::http_get(&proxy.address, "/flips")).trim().parse().expect("a number");
    assert!(flipped >= flips_in_transit, "{flipped} bodies were flipped for {flips_in_transit} clients");
    let signed = every_signed_byte(&container, &serving, variants, step);
    eprintln!(
        "{name}: {} files fetched; {refused} of {} clients refused a flip, {} took the same packages {same:?}; \
         gpgv refused each of {signed} bytes of text and signature; {:.0} s",
        targets.len(),
        clients.len(),
        same.values().map(Vec::len).sum::<usize>(),
        started.elapsed().as_secs_f64()
    );
}

/// The lines of an armored key that are the base64 of the public key itself (see `clients.rs`).
fn public_key_lines(text: &str) -> Range<usize> {
    let body = text.find("\n\n").expect("an empty line in the armor") + 2;
    let packet: usize = 3 + 6 + 514 + 5;
    let end = text[body..].match_indices('\n').nth(packet * 4 / 3 / 64 - 1).map(|(at, _)| body + at).expect("as many lines");
    body..end
}

/// Flips each byte of `repomd.xml` by itself, and each of its signature that nothing else vouches for: for GnuPG,
/// which dnf and zypper check it with.
fn every_signed_byte(container: &Container, serving: &Serving, folder: &Path, step: usize) -> usize {
    let signed = serving.get("/main/repodata/repomd.xml");
    let texts = folder.join("texts");
    fs::create_dir(&texts).expect("a folder");
    fs::write(texts.join("original"), &signed).expect("a text");
    for at in (0..signed.len()).step_by(step) {
        let mut text = signed.clone();
        text[at] ^= 1;
        fs::write(texts.join(format!("byte-{at}")), text).expect("a text");
    }
    let signature = serving.get("/main/repodata/repomd.xml.asc");
    let signatures = folder.join("signatures");
    fs::create_dir(&signatures).expect("a folder");
    let flipped = Armored::of(&signature).flipped(step);
    for (name, armored) in &flipped {
        fs::write(signatures.join(name), armored).expect("a signature");
    }
    fs::write(folder.join("repomd.xml.asc"), signature).expect("the signature");
    fs::write(folder.join("key.asc"), serving.get("/key.asc")).expect("the key");
    let script = "set -eu; cd \"$1\"; gpg --dearmor < key.asc > /tmp/ring.gpg
        for text in texts/*; do if gpgv --quiet --keyring /tmp/ring.gpg repomd.xml.asc $text 2> /dev/null; then echo \"${text#texts/}\"; fi; done
        for signature in signatures/*; do if gpgv --quiet --keyring /tmp/ring.gpg $signature texts/original 2> /dev/null
            then echo \"${signature#signatures/}\"; fi; done";
    let done = container.exec(&["sh", "-c", script, "sh", &folder.to_string_lossy()]).ok();
    assert_eq!(done.out, "original\nsignature\n", "gpgv takes a changed text or signature");
    signed.len().div_ceil(step) + flipped.len() - 1
}

/// A repository in a folder of the tests: packages as they are served, with metadata that fits them
/// and that nobody signed. Gives its client file.
struct Local<'a> {
    folder: &'a Path,
    serving: &'a Serving,
    /// What clients reach the server through.
    proxy: &'a Proxy,
}

impl Local<'_> {
    /// The client file that the server itself gives.
    fn client_file(&self) -> String {
        let text = String::from_utf8(self.serving.get("/main.repo")).expect("text");
        text.replace(&self.serving.address, &self.proxy.address)
    }

    /// A copy of the repository in a folder of that name; `signed` keeps the packages' signatures,
    /// and `settings` are changed in the client file.
    fn repository(&self, name: &str, signed: bool, settings: [&str; 2]) -> PathBuf {
        let packages = self.folder.join(name);
        fs::create_dir(&packages).expect("a folder");
        let fetched = self.serving.fetched();
        let targets: Vec<&String> = fetched.iter().filter(|target| target.ends_with(".rpm")).collect();
        assert_eq!(targets.len(), 3, "{fetched:?}");
        for target in targets {
            let file = packages.join(target.rsplit('/').next().unwrap_or_default());
            let served = self.serving.get(target);
            fs::write(&file, &served).expect("a package");
            if !signed {
                tool("rpmsign", &["--delsign", &file.to_string_lossy()]).ok();
                assert_ne!(fs::read(&file).expect("a package"), served, "the signature is gone");
            }
        }
        tool("createrepo_c", &["--no-database", &packages.to_string_lossy()]).ok();
        let from = format!("baseurl=http://{}/main/", self.proxy.address);
        let text = self.client_file().replace(&from, &format!("baseurl=file://{}", packages.display()));
        let text = text.replace(settings[0], settings[1]);
        assert!(text.contains("baseurl=file:") && text.contains("\ngpgcheck=1\n") && text.contains(settings[1]), "{text}");
        let file = self.folder.join(format!("{name}.repo"));
        fs::write(&file, text).expect("a client file");
        file
    }

    /// A client for each of these client files, after one that fetched everything from the server.
    fn verdicts(&self, manager: Manager, files: &dyn Fn() -> Vec<PathBuf>) -> Vec<Client> {
        let container = manager.container(&[self.folder]);
        let whole = self.folder.join("whole.repo");
        fs::write(&whole, self.client_file()).expect("a client file");
        let taken = manager.clients(&container, &self.proxy.address, &[format!("pass {} greet whole", whole.display())]);
        assert!(taken[0].verdict == "taken", "{taken:?}");
        let jobs: Vec<String> = files().iter().map(|file| format!("pass {} greet local", file.display())).collect();
        manager.clients(&container, &self.proxy.address, &jobs)
    }
}

/// The metadata need not be signed here, so it is the packages' own signatures that count.
fn refuses_unsigned(manager: Manager, complaint: &str) {
    manager.uses();
    let (serving, folder) = (Serving::of(built()), folder());
    let local = Local { folder: folder.path(), serving: &serving, proxy: &Proxy::of(&serving.address, &[]) };
    let unchecked = ["repo_gpgcheck=1", "repo_gpgcheck=0"];
    let clients =
        local.verdicts(manager, &|| vec![local.repository("signed", true, unchecked), local.repository("unsigned", false, unchecked)]);
    let [signed, unsigned] = clients.as_slice() else { panic!("{clients:?}") };
    assert!(signed.verdict == "taken", "{signed:?}");
    assert!(unsigned.verdict == "refused" && unsigned.complaint.contains(complaint), "{unsigned:?}");
}

/// Every package is signed, and the client file is ours but for the address.
fn refuses_unsigned_metadata(manager: Manager) {
    manager.uses();
    let (serving, folder) = (Serving::of(built()), folder());
    let local = Local { folder: folder.path(), serving: &serving, proxy: &Proxy::of(&serving.address, &[]) };
    let clients = local.verdicts(manager, &|| vec![local.repository("signed", true, ["repo_gpgcheck=1", "repo_gpgcheck=1"])]);
    let complaint = clients[0].complaint.to_lowercase();
    assert!(clients[0].verdict == "refused" && (complaint.contains("signature") || complaint.contains("signed")), "{clients:?}");
}
