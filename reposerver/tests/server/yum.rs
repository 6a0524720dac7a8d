//! Rpms: what is kept, how it is signed, and what dnf is told.

use crate::common::{self, Served, Shop, now, publish, snapshot};
use rpm::{BuildConfig, FileOptions, PackageBuilder};
use std::io::Read;
use std::sync::Arc;
use twostage_model::Sha256;
use twostage_reposerver::sign::{Algorithm, Key};
use twostage_reposerver::{Extra, Kind, repo_file};

const DATE: u32 = 1_700_000_000;

/// An rpm of one file; `more` adds to it.
fn rpm(name: &str, version: &str, content: &str, more: impl FnOnce(&mut PackageBuilder)) -> rpm::Package {
    let mut builder = PackageBuilder::new(name, version, "MIT", "noarch", "a test");
    builder
        .using_config(BuildConfig::v4().compression(rpm::CompressionType::Gzip).source_date(DATE).reserved_space(None))
        .release("1")
        .description("a test\nof two lines");
    let path = format!("/usr/share/{name}/content");
    builder.with_file_contents(content, FileOptions::new(path)).unwrap();
    more(&mut builder);
    builder.build().unwrap()
}

fn bytes(package: &rpm::Package) -> Vec<u8> {
    let mut bytes = Vec::new();
    package.write(&mut bytes).unwrap();
    bytes
}

pub fn plain(name: &str, version: &str, content: &str) -> Vec<u8> {
    bytes(&rpm(name, version, content, |_| ()))
}

/// Bytes of lead and signature header.
fn prefix(rpm: &[u8]) -> usize {
    let number = |at: usize| u32::from_be_bytes(rpm[at..at + 4].try_into().unwrap()) as usize;
    (96 + 16 + number(104) * 16 + number(108)).next_multiple_of(8)
}

pub fn unzipped(body: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(body).read_to_string(&mut text).unwrap();
    text
}

/// What repomd.xml says is where, by kind.
pub fn listed(served: &Served, site: &str) -> std::collections::BTreeMap<String, String> {
    let repomd = served.get(&format!("{site}/repodata/repomd.xml"), &[]);
    assert_eq!(repomd.status, 200, "{}", repomd.text());
    let text = repomd.text();
    let part = |data: &str, before: &str| data.split(before).nth(1).unwrap().split('"').next().unwrap().to_string();
    text.split("<data ").skip(1).map(|data| (part(data, "type=\""), part(data, "href=\""))).collect()
}

fn metadata(served: &Served, site: &str, kind: &str) -> String {
    let answer = served.get(&format!("{site}/{}", listed(served, site)[kind]), &[]);
    assert_eq!(answer.status, 200);
    assert!(listed(served, site)[kind].contains(&answer.digest().to_string()), "the name is the digest");
    unzipped(&answer.body)
}

pub fn hrefs(primary: &str) -> Vec<String> {
    primary.split("<location href=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_string()).collect()
}

#[test]
fn an_rpm_is_known_by_header_and_payload_whoever_signs_it() {
    let shop = Shop::new();
    let unsigned = plain("greet", "1.0", "hello");
    let package = shop.repo.pool().ingest(&unsigned[..], "greet.rpm").unwrap();
    assert_eq!(package.sha256, Sha256::of(&unsigned[prefix(&unsigned)..]));
    assert_eq!((package.kind, package.size, package.date), (Kind::Rpm, unsigned.len() as u64, i64::from(DATE)));
    assert_eq!(package.file_name(), "greet-1.0-1.noarch.rpm");

    // The same package in another wrapping is the same, and the first wrapping stays.
    let mut wrapped = unsigned.clone();
    wrapped[10] = b'x';
    let path = shop.dir.path().join("again.rpm");
    std::fs::write(&path, &wrapped).unwrap();
    assert_eq!(shop.repo.pool().ingest(&wrapped[..], "again").unwrap(), package);
    assert_eq!(shop.repo.ingest_file(&path).unwrap(), package);
    let again = shop.again();
    assert_eq!(again.pool().package(&package.sha256).unwrap(), package);
    let mut read = Vec::new();
    again.pool().open_package(&package.sha256).unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read, unsigned);
}

#[test]
fn what_is_remembered_of_an_rpm_can_be_lost_damaged_or_of_an_earlier_version() {
    let shop = Shop::new();
    let package = shop.repo.pool().ingest(&plain("greet", "1.0", "hello")[..], "greet").unwrap();
    let first = shop.publish("main", "g", &[&package]).unwrap().snapshot;
    let root = shop.repo.root().to_path_buf();
    let verified = root.join("verified");
    let whole = std::fs::read(&verified).unwrap();
    let ways: [(&str, Vec<u8>); 6] = [
        ("as it was", whole.clone()),
        ("cut off in the start", whole[..9].to_vec()),
        ("cut off in a record", whole[..whole.len() - 5].to_vec()),
        ("of another version", [b"twostage v2\n\0\0\0\0", &whole[16..]].concat()),
        ("of a version without a start", whole[16..].to_vec()),
        ("every bit another", whole.iter().map(|byte| !byte).collect()),
    ];
    let bits = (0..whole.len()).step_by(7).map(|at| {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        ("one bit another", changed)
    });
    for (how, bytes) in ways.into_iter().chain(bits) {
        std::fs::write(&verified, bytes).unwrap();
        std::fs::remove_dir_all(root.join("catalog")).unwrap();
        let repo = shop.again();
        assert_eq!(publish(&repo, "main", "g", &[&package], now()).unwrap().snapshot, first, "{how}");
        assert_eq!(shop.again().pool().package(&package.sha256).unwrap(), package, "{how}");
        assert!(shop.again().fsck(None, false, now()).unwrap().found.is_empty(), "{how}");
    }
}

#[test]
fn a_cut_or_changed_rpm_is_refused_and_leaves_nothing() {
    let shop = Shop::new();
    let good = plain("greet", "1.0", "hello");
    let mut changed = good.clone();
    *changed.last_mut().unwrap() ^= 1;
    for wrong in [&good[..good.len() - 1], &good[..200], &changed, &b"\xed\xab\xee\xdb"[..]] {
        assert!(shop.repo.pool().ingest(wrong, "wrong.rpm").is_err());
    }
    assert!(!shop.repo.root().join("pool").exists() && !shop.repo.root().join("meta").exists());
}

#[test]
fn one_snapshot_serves_apt_and_dnf_and_without_rpms_it_is_what_it_was() {
    let shop = Shop::new();
    let debian = shop.add("greet", "1.0", "hello");
    let alone = snapshot(&shop.repo, &[debian.sha256], now()).unwrap();
    let package = shop.repo.pool().ingest(&plain("greet", "1.0", "hello")[..], "greet.rpm").unwrap();
    let both = shop.publish("main", "g", &[&debian, &package]).unwrap().snapshot;
    assert_ne!(alone, both);
    let list = shop.repo.snapshots().info(&both).unwrap().unwrap().manifest.to_string();
    assert_eq!(list, format!("{}  greet-1.0-1.noarch.rpm\n{}  greet_1.0_all.deb\n", package.sha256, debian.sha256));
    let served = Served::new(&shop.repo);
    assert_eq!(served.get(&format!("/@{alone}/repodata/repomd.xml"), &[]).status, 404);
    assert!(!shop.repo.root().join(format!("snapshots/{alone}/repodata")).exists());
    let signed = std::fs::read_to_string(shop.repo.root().join(format!("snapshots/{alone}/signed.json"))).unwrap();
    assert!(!signed.contains("yum") && !signed.contains("repomd"), "{signed}");
    for site in ["/main".to_string(), format!("/@{both}")] {
        let primary = metadata(&served, &site, "primary");
        assert!(primary.contains("<name>greet</name>") && primary.contains(" packages=\"1\""), "{primary}");
        let packages = served.get(&format!("{site}/dists/twostage/main/binary-amd64/Packages"), &[]).text();
        assert!(packages.contains("greet_1.0_all.deb") && !packages.contains(".rpm"), "{packages}");
    }
    served.stop();
}

#[test]
fn an_unsigned_rpm_is_served_with_our_signature_in_whole_and_in_parts() {
    let shop = Shop::new();
    // Several frames of a body, compressed too.
    let content: String = (0..5000_u32).map(|n| Sha256::of(&n.to_be_bytes()).to_string()).collect();
    let unsigned = plain("greet", "1.0", &content);
    let package = shop.repo.pool().ingest(&unsigned[..], "greet.rpm").unwrap();
    shop.publish("main", "g", &[&package]).unwrap();
    let served = Served::new(&shop.repo);
    let primary = metadata(&served, "/main", "primary");
    let href = format!("/main/{}", hrefs(&primary)[0]);
    assert!(href.ends_with("/greet-1.0-1.noarch.rpm"), "{href}");
    let whole = served.get(&href, &[]);
    assert_eq!(whole.status, 200);
    assert!(primary.contains(&format!("pkgid=\"YES\">{}<", whole.digest())), "the pkgid is of the bytes that are served");
    assert!(primary.contains(&format!("<size package=\"{}\"", whole.body.len())));
    let header = prefix(&whole.body);
    assert!(primary.contains(&format!("<rpm:header-range start=\"{header}\" end=\"")));
    assert_eq!(whole.body[header..], unsigned[prefix(&unsigned)..], "header and payload as they came");
    assert_eq!(whole.header("etag"), format!("\"{}\"", whole.digest()));

    let head = served.ask("HEAD", &href, &[]);
    assert_eq!((head.header("content-length"), head.body.len()), (whole.body.len().to_string().as_str(), 0));
    for (first, last) in [(0, 0), (10, header + 10), (header - 1, header), (header, header + 70_000), (0, whole.body.len() - 1)] {
        let part = served.get(&href, &[&format!("Range: bytes={first}-{last}")]);
        assert_eq!(part.status, 206);
        assert_eq!(part.body, whole.body[first..=last], "{first}-{last}");
    }
    assert_eq!(served.get(&href, &[&format!("If-None-Match: {}", whole.header("etag"))]).status, 304);

    // Who takes the signature apart finds it good.
    let key = rpm::signature::pgp::Verifier::from_asc(&shop.repo.signing().public_key().unwrap()).unwrap();
    let parsed = rpm::Package::parse(&mut &whole.body[..]).unwrap();
    parsed.verify_signature(key).unwrap();
    served.stop();
}

#[test]
fn the_same_packages_and_key_give_the_same_bytes_in_another_repository() {
    let (one, two) = (Shop::new(), Shop::new());
    let key = one.repo.root().join("key/signing.asc");
    one.repo.signing().key(now()).unwrap();
    std::fs::create_dir_all(two.repo.root().join("key")).unwrap();
    std::fs::copy(key, two.repo.root().join("key/signing.asc")).unwrap();
    let mut found = Vec::new();
    for shop in [&one, &two] {
        let packages: Vec<_> = [("a", "1.0"), ("b", "2.0")]
            .iter()
            .map(|(name, v)| shop.repo.pool().ingest(&plain(name, v, "x")[..], name).unwrap().sha256)
            .collect();
        let id = shop.repo.snapshots().transient(&packages, 1_800_000_000).unwrap();
        let served = Served::new(&shop.repo);
        found.push(served.get(&format!("/@{id}/repodata/repomd.xml"), &[]).text());
        assert!(metadata(&served, &format!("/@{id}"), "other").contains("name=\"b\""));
        served.stop();
    }
    assert_eq!(found[0], found[1]);
    assert!(found[0].contains("<revision>1800000000</revision>"));
}

#[test]
fn a_new_key_signs_anew_and_old_metadata_still_finds_its_files() {
    let shop = Shop::new();
    let package = shop.repo.pool().ingest(&plain("greet", "1.0", "hello")[..], "greet.rpm").unwrap();
    let before = shop.publish("main", "g", &[&package]).unwrap().snapshot;
    let served = Served::new(&shop.repo);
    let old = listed(&served, "/main");
    let old_primary = metadata(&served, "/main", "primary");
    let old_href = hrefs(&old_primary)[0].clone();
    served.stop();

    std::fs::remove_file(shop.repo.root().join("key/signing.asc")).unwrap();
    let again = Arc::new(shop.again());
    assert!(publish(&again, "main", "g", &[&package], now()).is_err(), "nothing is signed with another key unasked");
    assert_eq!(again.rekey(now()).unwrap().1, ["main"]);
    assert_eq!(again.channels().get("main").unwrap().unwrap().snapshot, before, "the snapshot keeps its name");
    let served = Served::new(&again);
    assert_ne!(listed(&served, "/main"), old);
    let primary = metadata(&served, "/main", "primary");
    let href = hrefs(&primary)[0].clone();
    assert_ne!(href, old_href);
    for (primary, href) in [(&old_primary, &old_href), (&primary, &href)] {
        let body = served.get(&format!("/main/{href}"), &[]);
        assert!(primary.contains(&format!("pkgid=\"YES\">{}<", body.digest())));
    }
    for file in old.values() {
        for site in ["/main".to_string(), format!("/@{before}")] {
            let answer = served.get(&format!("{site}/{file}"), &[]);
            assert_eq!(answer.status, 200);
            assert!(file.contains(&answer.digest().to_string()));
        }
    }
    assert!(!publish(&again, "main", "g", &[&package], now()).unwrap().changed, "once signed anew, nothing is left to do");
    served.stop();
}

#[test]
fn a_moved_channel_has_a_newer_date_and_still_answers_for_its_earlier_files() {
    let shop = Shop::new();
    let one = shop.repo.pool().ingest(&plain("greet", "1.0", "one")[..], "one").unwrap();
    let two = shop.repo.pool().ingest(&plain("greet", "2.0", "two")[..], "two").unwrap();
    let first = shop.publish("main", "g", &[&one]).unwrap().snapshot;
    let served = Served::new(&shop.repo);
    let revision = |served: &Served| -> i64 {
        let text = served.get("/main/repodata/repomd.xml", &[]).text();
        text.split("<revision>").nth(1).unwrap().split('<').next().unwrap().parse().unwrap()
    };
    let (old, was) = (listed(&served, "/main"), revision(&served));
    shop.publish("main", "g", &[&one, &two]).unwrap();
    assert!(revision(&served) > was);
    let order = metadata(&served, "/main", "primary");
    assert!(order.find("ver=\"1.0\"").unwrap() < order.find("ver=\"2.0\"").unwrap());
    for file in old.values() {
        assert_eq!(served.get(&format!("/main/{file}"), &[]).status, 200);
    }
    let was = revision(&served);
    shop.repo.move_channel("main", &first, now()).unwrap();
    assert!(revision(&served) > was, "back is newer too");
    assert_eq!(listed(&served, "/main"), old, "and the files are those of then");
    served.stop();
}

#[test]
fn an_rpm_signed_elsewhere_stays_as_it_is_and_its_key_must_be_known() {
    let shop = Shop::new();
    let key = Key::make("Upstream <upstream@example.invalid>", Algorithm::Rsa3072, i64::from(DATE)).unwrap();
    let path = shop.dir.path().join("upstream.asc");
    Key::load_or_make(&path, "Upstream", Algorithm::Rsa3072, i64::from(DATE)).unwrap();
    let secret = std::fs::read_to_string(&path).unwrap();
    let upstream = Key::parse(&secret).unwrap();
    let mut signed = rpm("greet", "1.0", "hello", |_| ());
    signed.sign(rpm::signature::pgp::Signer::from_asc(&secret).unwrap()).unwrap();
    let signed = bytes(&signed);
    let package = shop.repo.pool().ingest(&signed[..], "greet.rpm").unwrap();
    let refused = shop.publish("main", "g", &[&package]).unwrap_err();
    assert!(refused.what().contains("does not know") && refused.hint_or_class().contains("add"), "{refused}");
    assert!(shop.repo.channels().get("main").unwrap().is_none());
    shop.repo.signing().add_key(key.public()).unwrap();
    assert!(shop.publish("main", "g", &[&package]).is_err(), "somebody else's key does not help");
    let added = shop.repo.signing().add_key(upstream.public()).unwrap();
    assert_eq!(added, [upstream.fingerprint()]);
    shop.publish("main", "g", &[&package]).unwrap();

    let served = Served::new(&shop.repo);
    let primary = metadata(&served, "/main", "primary");
    let body = served.get(&format!("/main/{}", hrefs(&primary)[0]), &[]);
    assert_eq!(body.body, signed);
    assert!(primary.contains(&format!("pkgid=\"YES\">{}<", body.digest())));
    let page = format!("/keys/{}.asc", upstream.fingerprint());
    let client = served.get("/main.repo", &[]).text();
    assert!(client.contains(&format!("gpgkey=http://{0}/key.asc\n       http://{0}{page}\n", served.at)), "{client}");
    assert_eq!(served.get(&page, &[]).status, 200);
    assert!(!client.contains(key.fingerprint()), "a key that signed nothing in it is not told");
    for wrong in ["/keys/..%2fkey.asc", "/keys/x.asc", "/keys/", "/keys"] {
        assert_ne!(served.get(wrong, &[]).status, 200, "{wrong}");
    }
    served.stop();
}

#[test]
fn a_client_file_checks_packages_and_metadata() {
    let shop = Shop::new();
    let package = shop.repo.pool().ingest(&plain("greet", "1.0", "hello")[..], "greet.rpm").unwrap();
    let id = shop.publish("main", "g", &[&package]).unwrap().snapshot;
    let served = Served::new(&shop.repo);
    let base = format!("http://{}", served.at);
    assert_eq!(
        served.get("/main.repo", &[]).text(),
        format!(
            "[demo-main]\nname=demo main\nbaseurl={base}/main/\nenabled=1\ngpgcheck=1\nrepo_gpgcheck=1\nmetadata_expire=1\n\
             gpgkey={base}/key.asc\n"
        )
    );
    let frozen = served.get(&format!("/@{id}.repo"), &[]).text();
    assert_eq!(frozen, repo_file(&base, &format!("@{id}"), "demo", []));
    assert!(frozen.contains("metadata_expire=never\n") && frozen.contains(&format!("baseurl={base}/@{id}/\n")), "{frozen}");
    assert_eq!(served.get("/nowhere.repo", &[]).status, 404);
    let repomd = served.get("/main/repodata/repomd.xml", &[]);
    let (xml, asc) = (shop.dir.path().join("repomd.xml"), shop.dir.path().join("repomd.xml.asc"));
    std::fs::write(&xml, &repomd.body).unwrap();
    std::fs::write(&asc, served.get("/main/repodata/repomd.xml.asc", &[]).body).unwrap();
    let key = served.get("/main/repodata/repomd.xml.key", &[]).text();
    assert_eq!(key, shop.repo.signing().public_key().unwrap());
    let (good, said) = common::gpgv(&key, shop.dir.path(), &[&asc, &xml]);
    assert!(good, "{said}");
    std::fs::write(&xml, [&repomd.body[..], b" "].concat()).unwrap();
    assert!(!common::gpgv(&key, shop.dir.path(), &[&asc, &xml]).0);
    served.stop();
}

#[test]
fn groups_and_advisories_are_passed_on_as_they_are_one_of_a_kind() {
    let shop = Shop::new();
    let package = shop.repo.pool().ingest(&plain("greet", "1.0", "hello")[..], "greet.rpm").unwrap();
    let groups = b"<?xml version=\"1.0\"?>\n<comps><group><id>all</id></group></comps>\n";
    let advisories = b"<updates></updates>\n";
    let comps = shop.repo.pool().ingest_extra(Extra::Group, groups).unwrap();
    let updates = shop.repo.pool().ingest_extra(Extra::UpdateInfo, advisories).unwrap();
    for (kind, wrong) in [(Extra::Group, &advisories[..]), (Extra::Group, b"<comps>\x07"), (Extra::Modules, b"\xff")] {
        assert!(shop.repo.pool().ingest_extra(kind, wrong).is_err());
    }
    let bare = snapshot(&shop.repo, &[package.sha256], now()).unwrap();
    let full = shop.publish("main", "g", &[&package, &comps, &updates]).unwrap().snapshot;
    assert_ne!(bare, full, "what clients are told is part of the list");
    let served = Served::new(&shop.repo);
    let files = listed(&served, "/main");
    assert_eq!(served.get(&format!("/main/{}", files["group"]), &[]).body, groups);
    assert_eq!(metadata(&served, "/main", "updateinfo").as_bytes(), advisories);
    served.stop();
    // Another state of the groups, in place of the first; both at once is refused.
    let newer = shop.repo.pool().ingest_extra(Extra::Group, b"<comps/>").unwrap();
    assert!(shop.publish("main", "g", &[&package, &comps, &newer]).unwrap_err().what().contains("comps.xml"));
    assert!(shop.publish("main", "g", &[&package, &newer]).unwrap().changed);
}

/// A value of a signature header: tag, type, count, bytes.
type Signature = (u32, u32, usize, Vec<u8>);

/// A signature as the older tags hold it.
fn packet(tag: u32, bytes: &[u8]) -> Signature {
    (tag, 7, bytes.len(), bytes.to_vec())
}

/// Signatures as rpm 6 holds them.
fn openpgp(packets: &[&[u8]]) -> Signature {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let base64 = |bytes: &[u8]| -> Vec<u8> {
        let three = |part: &[u8]| {
            let bits = part.iter().chain(&[0; 2]).take(3).fold(0, |bits, byte| bits << 8 | usize::from(*byte));
            let digit = move |at: usize| if at <= part.len() { DIGITS[bits >> (18 - 6 * at) & 63] } else { b'=' };
            (0..4).map(digit).collect::<Vec<_>>()
        };
        bytes.chunks(3).flat_map(three).chain([0]).collect()
    };
    (278, 8, packets.len(), packets.iter().flat_map(|packet| base64(packet)).collect())
}

/// These bytes behind a prefix that has no digest of them: their size, and perhaps signatures.
fn unvouched(header_and_payload: &[u8], signatures: &[Signature]) -> Vec<u8> {
    let (mut index, mut store) = (Vec::new(), Vec::new());
    let size = (1000, 4, 1, u32::try_from(header_and_payload.len()).unwrap().to_be_bytes().to_vec());
    for (tag, kind, count, value) in signatures.iter().cloned().chain([size]) {
        store.resize(store.len().next_multiple_of(4), 0);
        index.extend([tag, kind, u32::try_from(store.len()).unwrap(), u32::try_from(count).unwrap()]);
        store.extend(value);
    }
    let mut bytes = vec![0xed, 0xab, 0xee, 0xdb, 3, 0];
    bytes.resize(79, 0);
    bytes.push(5);
    bytes.resize(96, 0);
    bytes.extend([0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0]);
    let sizes = [u32::try_from(index.len() / 4).unwrap(), u32::try_from(store.len()).unwrap()];
    bytes.extend(sizes.iter().chain(&index).flat_map(|n| n.to_be_bytes()));
    bytes.extend(store);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend(header_and_payload);
    bytes
}

/// A key that the shop's repository knows.
pub fn upstream(shop: &Shop, name: &str) -> Key {
    let key = Key::load_or_make(&shop.dir.path().join(name), "Upstream", Algorithm::Rsa3072, i64::from(DATE)).unwrap();
    shop.repo.signing().add_key(key.public()).unwrap();
    key
}

/// A package's header and payload, and the signature of that key over its header.
pub fn with_signature(shop: &Shop, key: &str, name: &str) -> (Vec<u8>, Vec<u8>) {
    let mut signed = rpm(name, "1.0", "hello", |_| ());
    signed.sign(rpm::signature::pgp::Signer::from_asc(&std::fs::read_to_string(shop.dir.path().join(key)).unwrap()).unwrap()).unwrap();
    let signature = signed.raw_signatures().unwrap()[0].to_vec();
    let bytes = bytes(&signed);
    (bytes[prefix(&bytes)..].to_vec(), signature)
}

#[test]
fn a_signature_that_belongs_to_another_package_is_refused() {
    let shop = Shop::new();
    upstream(&shop, "upstream.asc");
    let (own, signature) = with_signature(&shop, "upstream.asc", "greet");
    let other = plain("other", "1.0", "evil");
    let good = shop.repo.pool().ingest(&unvouched(&own, &[packet(268, &signature)])[..], "good").unwrap();
    shop.publish("main", "g", &[&good]).unwrap();
    let forged = shop.repo.pool().ingest(&unvouched(&other[prefix(&other)..], &[packet(268, &signature)])[..], "forged").unwrap();
    let refused = shop.publish("main", "g", &[&forged]).unwrap_err();
    assert!(refused.what().contains("is not that of the key"), "{refused}");
}

/// What rpm 6 writes: a list, each of which must be good.
#[test]
fn signatures_in_rpm_6s_form_are_verified_as_the_older_ones_are() {
    let shop = Shop::new();
    let keys = ["one.asc", "two.asc"].map(|name| upstream(&shop, name));
    let ((own, one), (_, two)) = (with_signature(&shop, "one.asc", "greet"), with_signature(&shop, "two.asc", "greet"));
    let (_, others) = with_signature(&shop, "one.asc", "other");
    for (what, signatures, reason) in [
        ("another package's", vec![openpgp(&[&others])], "is not that of the key"),
        ("a good one before another package's", vec![openpgp(&[&one, &others])], "is not that of the key"),
        ("another package's beside a good one of the older form", vec![packet(268, &one), openpgp(&[&others])], "is not that of the key"),
        ("no signature at all", vec![openpgp(&[b"nothing"])], "names no key"),
    ] {
        // (A new repository each time: of one package the first signature stays.)
        let again = Shop::new();
        keys.iter().for_each(|key| drop(again.repo.signing().add_key(key.public()).unwrap()));
        let forged = again.repo.pool().ingest(&unvouched(&own, &signatures)[..], what).unwrap();
        let refused = again.publish("main", "g", &[&forged]).unwrap_err();
        assert!(refused.what().contains(reason), "{what}: {refused}");
    }
    let signed = unvouched(&own, &[openpgp(&[&one, &two])]);
    let package = shop.repo.pool().ingest(&signed[..], "good").unwrap();
    shop.publish("main", "g", &[&package]).unwrap();
    let served = Served::new(&shop.repo);
    let href = hrefs(&metadata(&served, "/main", "primary"))[0].clone();
    assert_eq!(served.get(&format!("/main/{href}"), &[]).body, signed);
    let client = served.get("/main.repo", &[]).text();
    assert!(keys.iter().all(|key| client.contains(key.fingerprint())), "clients are told of every signer: {client}");
    served.stop();
}

/// The first to come with one header and payload stays, so a bad signature around good ones must not be that.
#[test]
fn a_file_whose_signature_is_refused_is_not_kept_and_stands_in_nobodys_way() {
    let shop = Shop::new();
    upstream(&shop, "upstream.asc");
    let (own, signature) = with_signature(&shop, "upstream.asc", "greet");
    let (_, others) = with_signature(&shop, "upstream.asc", "other");
    let stranger = Shop::new();
    upstream(&stranger, "stranger.asc");
    let (_, unknown) = with_signature(&stranger, "stranger.asc", "greet");
    let path = shop.dir.path().join("greet.rpm");
    for (signatures, reason) in [
        (vec![packet(268, &unknown)], "does not know"),
        (vec![packet(268, &others)], "is not that of the key"),
        (vec![openpgp(&[&others])], "is not that of the key"),
        (vec![packet(1002, &signature)], "not over its header"),
    ] {
        std::fs::write(&path, unvouched(&own, &signatures)).unwrap();
        let refused = shop.repo.ingest_file(&path).unwrap_err();
        assert!(refused.what().contains(reason), "{refused}");
        assert!(!shop.repo.root().join("pool").exists() && !shop.repo.root().join("meta").exists(), "{reason}");
    }
    assert!(!shop.repo.signing().key_path().exists(), "no key was made for that");
    std::fs::write(&path, unvouched(&own, &[packet(268, &signature)])).unwrap();
    let package = shop.repo.ingest_file(&path).unwrap();
    shop.publish("main", "g", &[&package]).unwrap();
}

/// As rpm since 4.14 has it: only what is over the header alone says that the header is good.
#[test]
fn a_signature_over_header_and_payload_alone_is_no_proof() {
    let shop = Shop::new();
    let key = upstream(&shop, "upstream.asc");
    let (own, signature) = with_signature(&shop, "upstream.asc", "greet");
    for tag in [1002, 1005, 1006] {
        let again = Shop::new();
        again.repo.signing().add_key(key.public()).unwrap();
        let claimed = again.repo.pool().ingest(&unvouched(&own, &[packet(tag, &signature)])[..], "claimed").unwrap();
        let refused = again.publish("main", "g", &[&claimed]).unwrap_err();
        assert!(refused.what().contains("is signed, and not over its header"), "tag {tag}: {refused}");
        assert!(again.repo.signing().check_signature(&claimed, now()).is_err(), "tag {tag}");
        assert!(again.repo.channels().get("main").unwrap().is_none());
    }
    // Beside one over the header, as rpm 4 wrote them both for many years, it stays.
    let both = shop.repo.pool().ingest(&unvouched(&own, &[packet(268, &signature), packet(1002, &signature)])[..], "both").unwrap();
    shop.publish("main", "g", &[&both]).unwrap();
}

/// As what rpm before 4.14 writes: without a digest of the payload in the header.
fn without_payload_digest(name: &str) -> Vec<u8> {
    let whole = plain(name, "1.0", "hello");
    let mut rest = whole[prefix(&whole)..].to_vec();
    // It and what belongs to it become tags that nobody knows.
    let entries = u32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize;
    for (tag, unknown) in [(5092_u32, 5990_u32), (5093, 5991), (5097, 5992)] {
        if let Some(entry) = rest[16..].chunks(16).take(entries).position(|entry| entry[..4] == tag.to_be_bytes()) {
            rest[16 + 16 * entry..][..4].copy_from_slice(&unknown.to_be_bytes());
        }
    }
    unvouched(&rest, &[])
}

/// As `rpmsign --addsign` signs it: header, and header with payload. Real rpm wants both, and sees a flipped byte of either.
#[test]
fn an_rpm_without_a_payload_digest_is_signed_over_header_and_payload_too() {
    if !common::has(&["rpmkeys"]) {
        return;
    }
    for algorithm in [Algorithm::Rsa3072, Algorithm::Ed25519] {
        let shop = Shop::new();
        Key::load_or_make(&shop.repo.signing().key_path(), "Shop", algorithm, i64::from(DATE)).unwrap();
        let package = shop.repo.pool().ingest(&without_payload_digest("old")[..], "old.rpm").unwrap();
        let new = shop.repo.pool().ingest(&plain("new", "1.0", "hello")[..], "new.rpm").unwrap();
        shop.publish("main", "g", &[&package, &new]).unwrap();
        let served = Served::new(&shop.repo);
        let folder = shop.dir.path().join("rpms");
        std::fs::create_dir(&folder).unwrap();
        let (db, key) = (folder.join("db"), folder.join("key.asc"));
        std::fs::write(&key, shop.repo.signing().public_key().unwrap()).unwrap();
        // With the level that dnf asks for.
        let rpmkeys = |args: &[&std::ffi::OsStr]| {
            common::try_run(
                std::process::Command::new("rpmkeys").arg("--define=_pkgverify_level signature").arg("--dbpath").arg(&db).args(args),
            )
        };
        assert!(rpmkeys(&["--import".as_ref(), key.as_ref()]).0);
        let mut signatures = Vec::new();
        for href in hrefs(&metadata(&served, "/main", "primary")) {
            let body = served.get(&format!("/main/{href}"), &[]).body;
            let path = folder.join(href.rsplit('/').next().unwrap());
            std::fs::write(&path, &body).unwrap();
            let (good, said) = rpmkeys(&["-Kv".as_ref(), path.as_ref()]);
            assert!(good, "{algorithm:?} {said}");
            signatures.push(said.lines().filter(|line| line.contains("ignature")).count());
            for at in [body.len() - 1, body.len() - 20, prefix(&body) + 200] {
                let mut flipped = body.clone();
                flipped[at] ^= 1;
                std::fs::write(&path, &flipped).unwrap();
                assert!(!rpmkeys(&["-K".as_ref(), path.as_ref()]).0, "{algorithm:?} byte {at} of {}", body.len());
            }
        }
        assert_eq!(signatures, [1, 2], "of the header; of header and payload where that has no digest");
        served.stop();
    }
}
