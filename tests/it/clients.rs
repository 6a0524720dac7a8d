//! Real apt in containers: what a person does with `/<channel>.sources`, and what apt does when a
//! byte of what it is sent is another.
//!
//! Two releases of Debian, because their apts check signatures with different tools: bookworm's
//! with gpgv, trixie's with sqv, which has a policy of its own about keys and digests.

use crate::support::{Done, Project, Serving, Used, docker, http_get, root, run, step, uses};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

#[test]
fn apt_of_bookworm_installs_from_the_client_file() {
    installs("bookworm");
}

#[test]
fn apt_of_trixie_installs_from_the_client_file() {
    installs("trixie");
}

#[test]
fn apt_of_bookworm_refuses_a_flipped_byte_in_whatever_it_fetches() {
    refuses_flips("bookworm");
}

#[test]
fn apt_of_trixie_refuses_a_flipped_byte_in_whatever_it_fetches() {
    refuses_flips("trixie");
}

/// `apt-get update && apt-get install` with nothing but our client file, without one warning.
fn installs(suite: &str) {
    uses(Used::Engine);
    uses(Used::Apt);
    let project = Project::built_hello(&format!("installs-{suite}"));
    let serving = Serving::of(project.path());
    let container = Container::of(suite, &project, &[]);
    let script = format!(
        "set -eu
         rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
         /usr/lib/apt/apt-helper -o APT::Sandbox::User=root download-file http://{}/main.sources /etc/apt/sources.list.d/main.sources
         apt-get update
         apt-get install -y --no-install-recommends greet
         . /etc/os-release
         echo \"on $VERSION_CODENAME: $(greet)\"
         dpkg --audit",
        serving.address
    );
    let done = container.exec(&["sh", "-c", &script]).ok();
    assert!(done.out.contains(&format!("on {suite}: Hello, stranger!")), "{}", done.out);
    for line in done.err.lines().chain(done.out.lines()) {
        assert!(!line.starts_with("W:") && !line.starts_with("E:"), "apt says {line:?}\n{}{}", done.out, done.err);
    }
    let fetched = serving.fetched();
    assert!(fetched.iter().any(|target| target.ends_with("/InRelease")), "{fetched:?}");
    assert!(fetched.iter().any(|target| target.contains("/by-hash/SHA256/")), "{fetched:?}");
    assert!(fetched.iter().filter(|target| target.ends_with(".deb")).count() >= 3, "greet, its library, and Debian's: {fetched:?}");
}

/// One bit is flipped at many places of every file that a client fetched, one at a time, each time
/// for a client with nothing in its cache.
///
/// What is signed, or named by digest from there, and the public key in the client file, is refused
/// at every place. Nothing vouches for the rest: the client file's other fields, the name and the
/// self-signature behind the key, and of the signature its armor and what is not hashed ([`Armored`]). A client
/// that does install with a flip there gets the very same packages.
fn refuses_flips(suite: &str) {
    uses(Used::Engine);
    uses(Used::Apt);
    let (started, step) = (std::time::Instant::now(), step(5));
    let spread = spread_by(step);
    let project = Project::built_hello(&format!("flips-{suite}"));
    let serving = Serving::of(project.path());
    let variants = project.join("variants");
    fs::create_dir(&variants).expect("a folder");
    let container = Container::of(suite, &project, &[&variants]);

    // What a client fetches, by the access log.
    let clean = container.clients(&Proxy::of(&serving.address, &[]).address, &["pass path greet clean".to_string()]);
    assert!(clean[0].verdict == "taken" && clean[0].digests.len() >= 3, "{clean:?}");
    let genuine = clean[0].digests.clone();
    let targets = serving.fetched();
    for ending in [".sources", "/InRelease", ".deb"] {
        assert!(targets.iter().any(|target| target.ends_with(ending)), "{targets:?}");
    }
    let proxy = Proxy::of(&serving.address, &targets.iter().map(String::as_str).collect::<Vec<_>>());

    let mut jobs = Vec::new();
    // Where in each target the bytes are that nothing vouches for.
    let mut loose: Vec<Vec<Range<usize>>> = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        let body = serving.get(target);
        let length = body.len();
        if target.ends_with(".sources") {
            let text = String::from_utf8(body).expect("a client file is text");
            let fields = text.find("-----BEGIN").expect("the key is in it");
            let mut places: BTreeSet<usize> = (0..fields).step_by(step).collect();
            places.extend(spread(fields, length, 48));
            jobs.extend(places.iter().map(|at| format!("flip-{index}-{at} file greet {index}:{at}")));
            let key = public_key_lines(&text);
            loose.push(vec![0..key.start, key.end..length]);
        } else if target.ends_with("/InRelease") {
            let (signed, strict) = (signed_text(&body), Armored::of(&body).strict);
            let mut places = spread(signed.start, signed.end, 24);
            places.extend(spread(0, signed.start, 6));
            places.extend(spread(signed.end, length, 24));
            jobs.extend(places.iter().map(|at| format!("flip-{index}-{at} path greet {index}:{at}")));
            loose.push(others(length, &strict).into_iter().filter(|place| !signed.contains(&place.start)).collect());
        } else {
            jobs.extend(spread(0, length, 10).iter().map(|at| format!("flip-{index}-{at} path greet {index}:{at}")));
            loose.push(Vec::new());
        }
    }
    let clients = container.clients(&proxy.address, &jobs);
    assert_eq!(clients.len(), jobs.len(), "every client has come to an end");

    let mut wrong = String::new();
    let (mut refused, mut same) = (0, BTreeMap::new());
    for client in &clients {
        let (index, at) = client.place();
        let target = &targets[index];
        let strict = !loose[index].iter().any(|range| range.contains(&at));
        if !client.digests.is_subset(&genuine) {
            let _ = writeln!(wrong, "{target} byte {at}: packages that nobody published: {client:?}");
        } else if client.verdict == "refused" {
            refused += 1;
        } else if strict {
            let _ = writeln!(wrong, "{target} byte {at}: taken: {client:?}");
        } else if client.digests != genuine {
            let _ = writeln!(wrong, "{target} byte {at}: taken with fewer packages: {client:?}");
        } else {
            same.entry(target.as_str()).or_insert_with(Vec::new).push(at);
        }
    }
    assert!(wrong.is_empty(), "{suite}\n{wrong}");
    let flipped: usize = String::from_utf8_lossy(&http_get(&proxy.address, "/flips")).trim().parse().expect("a number");
    assert!(flipped >= jobs.len(), "{flipped} bodies were flipped for {} clients", jobs.len());

    // Every signed byte (or every fifth), with the tool that this apt checks signatures with.
    let release = targets.iter().find(|target| target.ends_with("/InRelease")).expect("an InRelease");
    let (tool, signed, taken) = every_signed_byte(&container, &serving.get(release), &variants, &serving.get("/key.asc"), step);
    assert_eq!(taken, ["original", "signature"], "{suite}: {tool} takes a changed text or signature");
    eprintln!(
        "{suite}: {} files fetched; {refused} of {} clients refused a flip, {} took the same packages {same:?}; \
         {tool} refused each of {signed} bytes of text and signature; {:.0} s",
        targets.len(),
        clients.len(),
        same.values().map(Vec::len).sum::<usize>(),
        started.elapsed().as_secs_f64()
    );
}

/// Gives `count` places from the first number on, below the second, the first and the last among them; half as many where
/// not every step is made.
pub fn spread_by(step: usize) -> impl Fn(usize, usize, usize) -> BTreeSet<usize> {
    move |from, to, count| {
        let (count, last) = (if step == 1 { count } else { count / 2 }, to - from - 1);
        (0..count).map(|n| from + n * last / (count - 1)).collect()
    }
}

/// The bytes of a client file that are the base64 of the public key itself: its packet is the
/// first, and as long as RSA with 4096 bits makes it. Behind it are the user's name and the
/// self-signature, which no apt looks at.
fn public_key_lines(text: &str) -> Range<usize> {
    let begin = text.find("-----BEGIN").expect("a key");
    // The armor's header ends with the line ` .`.
    let body = begin + text[begin..].find("\n .\n").expect("an empty line in the armor") + 4;
    // 3 bytes of header, 6 of version, time and algorithm, 2 + 512 of the modulus, 2 + 3 of the exponent.
    let packet = 3 + 6 + 514 + 5;
    let lines = packet * 4 / 3 / 64;
    let end = text[body..].match_indices('\n').nth(lines - 1).map(|(at, _)| body + at).expect("as many lines");
    body..end
}

/// The bytes of a clear-signed text that are signed.
fn signed_text(inrelease: &[u8]) -> Range<usize> {
    let find = |what: &str| inrelease.windows(what.len()).position(|window| window == what.as_bytes()).expect("an InRelease");
    find("\n\n") + 2..find("\n-----BEGIN PGP SIGNATURE-----")
}

/// A signature in its armor, and which bytes of it nobody can change.
pub struct Armored {
    /// The signature's packet.
    packet: Vec<u8>,
    /// The places in the packet of what is hashed together with the text (how and when it was signed, and by
    /// whom), and of the number that RSA made of the hash. Nothing vouches for the rest: the packet's length,
    /// the area that is not hashed, two bytes of the hash, and the number's count of bits.
    vouched: [Range<usize>; 2],
    /// The places in the text of characters that stand for such bytes alone.
    pub strict: BTreeSet<usize>,
}

impl Armored {
    /// The signature that is the text, or stands at its end.
    pub fn of(text: &[u8]) -> Armored {
        let find = |what: &str, from: usize| {
            let found = text[from..].windows(what.len()).position(|window| window == what.as_bytes());
            from + found.expect("an armored signature")
        };
        let start = find("\n\n", find("-----BEGIN PGP SIGNATURE-----", 0)) + 2;
        // The checksum has a line of its own, which begins with this sign.
        let is_body = |line: &&[u8]| !line.starts_with(b"=") && !line.starts_with(b"-");
        let body: usize = text[start..].split_inclusive(|byte| *byte == b'\n').take_while(is_body).map(<[u8]>::len).sum();
        let packet = twostage_package::rpm::signature::base64(&text[start..start + body]);

        let number = |at: usize| usize::from(packet[at]) << 8 | usize::from(packet[at + 1]);
        let begin = match (packet[0] & 0x40, packet[0] & 3, packet[1]) {
            (0, length_of_length, _) => 1 + (1 << length_of_length),
            (_, _, 0..192) => 2,
            (_, _, 192..224) => 3,
            _ => 6,
        };
        assert!(packet[begin] == 4 && packet[begin + 2] == 1, "a signature of version 4 by RSA");
        let unhashed = begin + 6 + number(begin + 4);
        let bits = unhashed + 2 + number(unhashed) + 2;
        assert_eq!(bits + 2 + number(bits).div_ceil(8), packet.len(), "one number, and nothing behind it");
        let vouched = [begin..unhashed, bits + 2..packet.len()];

        let is_vouched = |byte: usize| vouched.iter().any(|range| range.contains(&byte));
        let characters = (start..start + body).filter(|at| !b"\n=".contains(&text[*at]));
        let strict = characters.enumerate().filter(|(n, _)| is_vouched(n * 6 / 8) && is_vouched((n * 6 + 5) / 8)).map(|(_, at)| at);
        Armored { strict: strict.collect(), vouched, packet }
    }

    /// The signature itself, then one for each of the bytes that are vouched for, with that one flipped. Each has
    /// a checksum of its own, so that it is not this that a tool complains of.
    pub fn flipped(&self, step: usize) -> Vec<(String, String)> {
        let mut all = vec![("signature".to_string(), armor(&self.packet))];
        for at in self.vouched.iter().cloned().flatten().step_by(step) {
            let mut packet = self.packet.clone();
            packet[at] ^= 1;
            all.push((format!("signature-{at}"), armor(&packet)));
        }
        all
    }
}

/// Armor, with the checksum of just this (RFC 9580 section 6.1): without one gpgv does not take what ends in no padding.
fn armor(packet: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let encoded = |bytes: &[u8]| -> String {
        let group = |three: &[u8]| -> Vec<char> {
            let bits = three.iter().chain(&[0; 2]).take(3).fold(0, |bits, byte| bits << 8 | usize::from(*byte));
            (0..4).map(|at| if at <= three.len() { char::from(DIGITS[bits >> (18 - 6 * at) & 63]) } else { '=' }).collect()
        };
        bytes.chunks(3).flat_map(group).collect()
    };
    let sum = packet.iter().fold(0x00b7_04ce_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte) << 16, |sum, _| if sum & 0x80_0000 == 0 { sum << 1 } else { sum << 1 ^ 0x0186_4cfb })
    });
    let mut text = "-----BEGIN PGP SIGNATURE-----\n\n".to_string();
    packet.chunks(48).for_each(|line| text.extend([encoded(line), "\n".into()]));
    text + "=" + &encoded(&sum.to_be_bytes()[1..]) + "\n-----END PGP SIGNATURE-----\n"
}

/// The places below `length` that are none of these.
pub fn others(length: usize, strict: &BTreeSet<usize>) -> Vec<Range<usize>> {
    (0..length).filter(|at| !strict.contains(at)).map(|at| at..at + 1).collect()
}

/// Flips each byte of the signed text by itself, and each of the signature that nothing else vouches for. Gives the
/// tool, how many, and which of the texts the tool took.
fn every_signed_byte(container: &Container, inrelease: &[u8], folder: &Path, key: &[u8], step: usize) -> (String, usize, Vec<String>) {
    let signed = signed_text(inrelease);
    fs::write(folder.join("key.asc"), key).expect("the key");
    let texts = folder.join("texts");
    fs::create_dir(&texts).expect("a folder");
    fs::write(texts.join("original"), inrelease).expect("a text");
    for at in signed.clone().step_by(step) {
        let mut text = inrelease.to_vec();
        text[at] ^= 1;
        fs::write(texts.join(format!("byte-{at}")), text).expect("a text");
    }
    let signatures = Armored::of(inrelease).flipped(step);
    for (name, armored) in &signatures {
        // With the line end that stands before a signature.
        fs::write(texts.join(name), [&inrelease[..=signed.end], armored.as_bytes()].concat()).expect("a text");
    }
    let folder = folder.to_string_lossy();
    let done = container.exec(&["sh", "/tools/verify_each.sh", &format!("{folder}/key.asc"), &format!("{folder}/texts")]).ok();
    let mut lines = done.out.lines().map(String::from);
    let tool = lines.next().unwrap_or_default();
    (tool, signed.step_by(step).count() + signatures.len() - 1, lines.collect())
}

/// What one client did.
#[derive(Debug)]
pub struct Client {
    label: String,
    pub verdict: String,
    pub digests: BTreeSet<String>,
    pub complaint: String,
}

impl Client {
    pub fn place(&self) -> (usize, usize) {
        let (index, at) = self.label.split_once(':').expect("index:place");
        (index.parse().expect("a number"), at.parse().expect("a number"))
    }
}

/// A container that sleeps until it is needed.
pub struct Container(String);

impl Container {
    /// One of this release, with the tools of the tests and these folders in it, on the host's network.
    fn of(suite: &str, project: &Project, folders: &[&Path]) -> Container {
        let image = match suite {
            "bookworm" => base_of(project.path()),
            suite => other_base(suite),
        };
        Container::of_image(&image, folders)
    }

    /// One of this image, with the same.
    pub fn of_image(image: &str, folders: &[&Path]) -> Container {
        let mut arguments = vec!["run".to_string(), "--detach".into(), "--rm".into(), "--network=host".into()];
        arguments.push(format!("--volume={}:/tools:ro", root().join("tests/tools").display()));
        arguments.extend(folders.iter().map(|folder| format!("--volume={0}:{0}:ro", folder.display())));
        arguments.extend([image.to_string(), "sleep".into(), "1800".into()]);
        let done = run(Command::new("docker").args(&arguments)).ok();
        Container(done.last_line().to_string())
    }

    pub fn exec(&self, command: &[&str]) -> Done {
        run(Command::new("docker").args(["exec", &self.0]).args(command))
    }

    /// Runs a client of apt for each of the jobs (see `tests/tools/install_each.sh`).
    fn clients(&self, server: &str, jobs: &[String]) -> Vec<Client> {
        self.clients_of(&["/tools/install_each.sh", &format!("http://{server}")], jobs)
    }

    /// Runs a client for each of the jobs with one of the scripts in `tests/tools`.
    pub fn clients_of(&self, script: &[&str], jobs: &[String]) -> Vec<Client> {
        let mut child = Command::new("docker")
            .args(["exec", "--interactive", &self.0, "sh"])
            .args(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("docker");
        let mut stdin = child.stdin.take().expect("a pipe");
        let text = jobs.join("\n") + "\n";
        let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
        let output = child.wait_with_output().expect("docker ends");
        writer.join().expect("a thread").expect("docker reads its input");
        assert!(output.status.success(), "{}", output.status);
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| {
                let parts: Vec<&str> = line.split('\t').collect();
                let [label, verdict, digests, complaint] = parts.as_slice() else { panic!("{line:?}") };
                Client {
                    label: (*label).into(),
                    verdict: (*verdict).into(),
                    digests: digests.split('+').filter(|digest| !digest.is_empty()).map(String::from).collect(),
                    complaint: (*complaint).into(),
                }
            })
            .collect()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        docker(&["rm", "--force", &self.0]);
    }
}

/// The image of the base that a project's lock names.
fn base_of(project: &Path) -> String {
    let lock = fs::read_to_string(project.join("twostage.lock")).expect("a lock");
    let base = lock.split("[[base]]").nth(1).expect("a base in the lock");
    let digest = base.lines().find_map(|line| line.strip_prefix("digest = \"")).expect("its digest").trim_end_matches('"');
    format!("twostage-base:{}", &digest[..12])
}

/// The base of another release, made by a small project that stays in the target folder.
fn other_base(suite: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("base-{suite}"));
    fs::create_dir_all(&folder).expect("a folder");
    let project = format!("[project]\nname = \"base-{suite}\"\n[base]\nbootstrap = \"debian:{suite}\"\n");
    fs::write(folder.join("twostage.toml"), project).expect("a project file");
    run(crate::support::twostage().arg("--project").arg(&folder).arg("lock")).ok();
    base_of(&folder)
}

/// `tests/tools/flipping_proxy.py`, running.
pub struct Proxy {
    child: Child,
    pub address: String,
}

impl Proxy {
    pub fn of(server: &str, targets: &[&str]) -> Proxy {
        let mut child = Command::new("python3")
            .arg(root().join("tests/tools/flipping_proxy.py"))
            .arg(server)
            .args(targets)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("it says where it listens");
        let address = line.trim().strip_prefix("listening ").expect("it listens").to_string();
        Proxy { child, address }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
