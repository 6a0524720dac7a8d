//! Layers that are odd in one thing each, read by everything that reads layers, and by Docker: one tree, or a refusal.
//!
//! `run` is the tree that a container of the embedded engine has, `flatten` that of the flat image, `diff` the comparison
//! with what Docker exports, `audit` its table. Where one of them and Docker do not agree, the layout says why, and so does
//! `docs/layers.md`. (Docker reads every sixth of them, and those with a
//! reason; with `make test-all` all.)

use crate::support::{Used, image_name, root, run, step, uses};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use twostage_engine::{Engine, Kind as EngineKind, pipe};
use twostage_image::diff::Difference;
use twostage_image::flatten::flatten;
use twostage_image::path::{from_bytes, shown};
use twostage_image::{Base, Compression, Entry, Header, Image, Kind, NewImage, Store, Tarball, Tree, audit, pax_record, wanted};
use twostage_model::Sha256;

/// What Docker does with a layout that we read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Docker {
    /// It has the same tree.
    Same,
    /// It refuses it, for which there is a reason.
    Refuses(&'static str),
    /// It has another tree, for which there is a reason.
    Differs(&'static str),
}

/// What we do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ours {
    Read(Docker),
    /// As Docker.
    Refused,
    /// Though Docker reads it.
    OnlyWeRefuse(&'static str),
    /// It is read as data, but no container starts from it, as with Docker.
    OnlyRead(&'static str),
}

const SAME: Ours = Ours::Read(Docker::Same);
const TWICE: Ours = Ours::Read(Docker::Refuses(
    "`docker load` keeps the headers of a tar by their names, and takes no name twice; containerd and Podman do",
));
const EXISTS: Ours = Ours::Read(Docker::Refuses(
    "Docker's storage makes a device for a deletion, which fails where the layer has something; a deletion speaks of the layers below (layer.md)",
));
const MISSING: Ours =
    Ours::OnlyRead("a name of a file that is not in the layer, or comes later: containerd, which unpacks over the layers below, takes it");

/// One member of a tar.
#[derive(Clone)]
struct Member {
    kind: u8,
    name: Vec<u8>,
    link: Vec<u8>,
    content: Vec<u8>,
    mode: u32,
    ids: (u32, u32),
    device: (u32, u32),
    records: Vec<(&'static str, Vec<u8>)>,
}

fn member(kind: u8, name: impl AsRef<[u8]>) -> Member {
    let mode = if kind == b'5' { 0o755 } else { 0o644 };
    let name = name.as_ref().to_vec();
    Member { kind, name, link: Vec::new(), content: Vec::new(), mode, ids: (0, 0), device: (0, 0), records: Vec::new() }
}

fn f(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Member {
    Member { content: content.as_ref().to_vec(), ..member(b'0', name) }
}

fn d(name: impl AsRef<[u8]>) -> Member {
    member(b'5', name)
}

fn l(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    Member { link: target.as_ref().to_vec(), mode: 0o777, ..member(b'2', name) }
}

fn h(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Member {
    Member { link: target.as_ref().to_vec(), ..member(b'1', name) }
}

fn dev(kind: u8, name: &str, major: u32, minor: u32) -> Member {
    Member { device: (major, minor), ..member(kind, name) }
}

impl Member {
    fn mode(self, mode: u32) -> Member {
        Member { mode, ..self }
    }

    fn ids(self, uid: u32, gid: u32) -> Member {
        Member { ids: (uid, gid), ..self }
    }

    fn pax(mut self, key: &'static str, value: impl AsRef<[u8]>) -> Member {
        self.records.push((key, value.as_ref().to_vec()));
        self
    }

    fn write(&self, out: &mut Vec<u8>) {
        if !self.records.is_empty() {
            let records = self.records.iter().flat_map(|(key, value)| pax_record(key.as_bytes(), value)).collect();
            Member { content: records, ..member(b'x', "././@PaxHeader") }.write(out);
        }
        let mut block = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, format!("{:07o}", self.mode).as_bytes());
        put(108, format!("{:07o}", self.ids.0).as_bytes());
        put(116, format!("{:07o}", self.ids.1).as_bytes());
        put(124, format!("{:011o}", self.content.len()).as_bytes());
        put(136, format!("{:011o}", 1_500_000_000).as_bytes());
        put(148, b"        ");
        put(156, &[self.kind]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}", self.device.0).as_bytes());
        put(337, format!("{:07o}", self.device.1).as_bytes());
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend(block);
        out.extend(&self.content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
}

/// A tar without its end.
fn open_tar(members: &[Member]) -> Vec<u8> {
    let mut out = Vec::new();
    members.iter().for_each(|member| member.write(&mut out));
    out
}

fn tar(members: &[Member]) -> Vec<u8> {
    let mut out = open_tar(members);
    out.resize(out.len() + 1024, 0);
    out
}

/// How a layout is handed over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `docker save`'s.
    Archive,
    /// An OCI layout.
    Layout(Blobs),
}

/// What the layout's blobs are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blobs {
    Plain,
    Gzip,
    /// Two members, one after another.
    GzipTwice,
    Zstd,
    /// Of a media type that registries are not to pass on.
    Foreign,
    /// Below an index of several machines, with what is no image beside it.
    Nested,
    NoMediaType,
}

struct Layout {
    name: &'static str,
    /// Above the base.
    layers: Vec<Vec<u8>>,
    form: Form,
    ours: Ours,
}

fn base() -> Vec<u8> {
    tar(&[
        d("a/"),
        f("a/low", "low"),
        d("a/deep/"),
        f("a/deep/x", "deep"),
        d("real/"),
        f("real/old", "old"),
        l("lowlink", "real"),
        f("file", "file"),
        h("file2", "file"),
    ])
}

/// One oddity each.
fn layouts() -> Vec<Layout> {
    let mut all = Vec::new();
    let mut raw = |name, layers: Vec<Vec<u8>>, ours| all.push(Layout { name, layers, form: Form::Archive, ours });
    let mut one = |name, members: &[Member], ours| raw(name, vec![tar(members)], ours);
    let deep: String = "folder-of-a-long-name/".repeat(12);

    // Links of the same layer.
    one("a plain layer", &[d("n/"), f("n/x", "1")], SAME);
    one("through a link", &[d("r/"), l("l", "r"), f("l/x", "1")], SAME);
    one("through an absolute link", &[d("r/"), l("l", "/r"), f("l/x", "1")], SAME);
    one("through a link that leads above the root", &[d("r/"), l("l", "../../r"), f("l/x", "1")], SAME);
    one("through a link with dots in it", &[d("r/"), d("r/s/"), l("l", "r/./s/../s"), f("l/x", "1")], SAME);
    one("through a chain of links", &[d("r/"), l("b", "r"), l("c", "b"), l("e", "/c"), f("e/x", "1")], SAME);
    one("through a link behind a link", &[d("r/"), d("r/s/"), l("l", "r"), l("l/m", "s"), f("l/m/x", "1")], SAME);
    one("a folder stated through a link", &[d("r/"), l("l", "r"), d("l/sub/").mode(0o700), f("r/sub/x", "1")], SAME);
    one(
        "through a link to a folder of a layer below",
        &[l("l", "real"), f("l/x", "1")],
        Ours::Read(Docker::Refuses(
            "Docker unpacks a layer on its own, where the link leads nowhere; containerd, which unpacks over the layers below, and we find the folder",
        )),
    );
    one("over a link of a layer below", &[f("lowlink/x", "1")], SAME);
    one("a loop of links", &[l("p", "q"), l("q", "p"), f("p/x", "1")], Ours::Refused);
    one("through a link to a file", &[f("p", "1"), l("q", "p"), f("q/x", "1")], Ours::Refused);
    one("a link to itself that nothing passes through", &[l("p", "p"), l("out", "../../../etc/none")], SAME);

    // Hard links.
    one("a hard link", &[f("p", "1").mode(0o640), h("q", "p"), h("r", "q")], SAME);
    one("a hard link whose target is behind a link", &[d("r/"), f("r/x", "1"), l("l", "r"), h("q", "l/x")], SAME);
    one("a hard link that is behind a link", &[d("r/"), f("y", "1"), l("l", "r"), h("l/q", "y")], SAME);
    one("a hard link to a link", &[l("s", "real"), h("q", "s")], SAME);
    one("a hard link to a file of a layer below", &[h("q", "file")], MISSING);
    one("a hard link before its file", &[h("q", "p"), f("p", "1")], MISSING);
    one("a hard link to itself", &[f("p", "1"), h("p", "p")], MISSING);
    one("a hard link to a folder", &[d("r/"), h("q", "r")], Ours::Refused);
    one("a hard link to a file that is replaced", &[f("p", "1"), h("q", "p"), f("p", "22")], TWICE);
    one("a hard link with rights and an owner of its own", &[f("p", "1").mode(0o4755).ids(7, 8), h("q", "p").mode(0o600).ids(9, 10)], SAME);
    one("three names, and the rights of the last", &[f("p", "1").mode(0o600), h("q", "p").mode(0o4711), h("r", "q").mode(0o2755)], SAME);
    one(
        "a hard link with rights of its own, and its place is taken",
        &[f("p", "1").mode(0o644), h("q", "p").mode(0o600), f("q", "22").mode(0o755)],
        TWICE,
    );
    one(
        "a file whose place is taken, and a hard link with rights of its own to the other name",
        &[f("p", "1").mode(0o644), h("q", "p").mode(0o600), f("p", "22"), h("r", "q").mode(0o711)],
        TWICE,
    );
    one("a hard link to a link, with an owner of its own", &[l("s", "real"), h("q", "s").mode(0o600).ids(7, 8)], SAME);
    one(
        "a hard link without the file's capability",
        &[f("p", "1").mode(0o755).pax(CAPABILITY, capability()), h("q", "p").mode(0o755)],
        SAME,
    );
    one("a hard link with a capability", &[f("p", "1").mode(0o755), h("q", "p").mode(0o755).pax(CAPABILITY, capability())], SAME);
    one("a hard link without the file's note", &[f("p", "1").pax("SCHILY.xattr.user.note", "kept"), h("q", "p")], SAME);
    one("a hard link to a pipe", &[member(b'6', "p"), h("q", "p")], SAME);
    one("one of two names below is deleted", &[f(".wh.file2", "")], SAME);

    // One path twice.
    one("a file twice", &[f("p", "1"), f("p", "22")], TWICE);
    one("a folder twice", &[d("n/").mode(0o700), f("n/x", "1"), d("n/")], TWICE);
    one("a file and then a folder", &[f("p", "1"), d("p/"), f("p/x", "1")], TWICE);
    one("a folder and then a file", &[d("p/"), f("p/x", "1"), f("p", "1")], TWICE);
    one("a link and then a folder", &[d("r/"), l("p", "r"), f("p/x", "1"), d("p/"), f("p/y", "1")], TWICE);
    one("a folder and then a link", &[d("p/"), f("p/x", "1"), l("p", "real")], TWICE);
    one("a file as a folder", &[f("p", "1"), f("p/x", "1")], Ours::Refused);

    // Other kinds than below.
    one("a folder over a file", &[d("file/"), f("file/x", "1")], SAME);
    one("a folder that no member states over a file", &[f("file/x", "1")], SAME);
    one("a file over a folder", &[f("a", "1")], SAME);
    one("a link over a folder", &[l("a", "real")], SAME);
    one("a folder over a folder", &[d("a/").mode(0o700).ids(7, 8)], SAME);
    one("a folder over a link", &[d("lowlink/")], SAME);

    // Deletions.
    one("a file is deleted", &[f("a/.wh.low", "")], SAME);
    one("a folder is deleted", &[f(".wh.a", "")], SAME);
    one("nothing is deleted", &[f(".wh.none", ""), f("a/.wh.none", "")], SAME);
    one("a deletion in a folder that is nowhere", &[f("m/n/.wh.x", "")], SAME);
    one("a deletion and then the file", &[f(".wh.file", ""), f("file", "new")], SAME);
    one("the file and then its deletion", &[f("file", "new"), f(".wh.file", "")], EXISTS);
    one(
        "a deletion and then the folder",
        &[f(".wh.a", ""), d("a/"), f("a/new", "1")],
        Ours::Read(Docker::Differs(
            "Docker's storage forgets the deletion when the folder takes its place, so that what it deletes is there again; a deletion speaks of the layers below (layer.md)",
        )),
    );
    one("the folder and then its deletion", &[d("a/"), f("a/new", "1"), f(".wh.a", "")], EXISTS);
    one("a deletion and then a file in it", &[f(".wh.a", ""), f("a/new", "1")], Ours::Refused);
    one("a deletion in a folder, and a folder in its place", &[d("a/"), f("a/.wh.low", ""), d("a/low/")], SAME);
    one("a deletion through a link", &[l("l", "real"), d("real/"), f("l/.wh.old", "")], SAME);
    one("a link of the layer, and its deletion", &[d("r/"), l("l", "r"), f(".wh.l", "")], EXISTS);
    one("what a link of a layer below leads to is deleted", &[f("real/.wh.old", ""), f(".wh.lowlink", "")], SAME);
    one("an opaque folder, its mark first", &[d("a/"), f("a/.wh..wh..opq", ""), f("a/n", "1")], SAME);
    one("an opaque folder, its mark last", &[d("a/"), f("a/n", "1"), f("a/.wh..wh..opq", "")], SAME);
    one("an opaque folder that no member states", &[f("a/.wh..wh..opq", "")], SAME);
    one("an opaque folder behind a link", &[d("real/"), l("l", "real"), f("l/.wh..wh..opq", "")], SAME);
    one("an opaque folder in an opaque folder", &[d("a/"), f("a/.wh..wh..opq", ""), d("a/deep/"), f("a/deep/.wh..wh..opq", "")], SAME);
    one("a deletion without a name", &[f(".wh.", "")], Ours::Refused);
    one("a deletion of the folder itself", &[f("a/.wh..", "")], Ours::Refused);
    one("a deletion of the folder above", &[f("a/.wh...", "")], Ours::Refused);
    one("a deletion that is a folder", &[d(".wh.a/")], SAME);
    one(
        "a file in a deletion",
        &[d(".wh.a/"), f(".wh.a/x", "1")],
        Ours::OnlyWeRefuse("Docker's storage makes a folder of that name, and the next who packs the layer a deletion of something else"),
    );
    one("a device 0/0", &[dev(b'3', "file", 0, 0)], SAME);

    // What aufs left.
    one("a note of aufs", &[f(".wh..wh.aufs", ""), d(".wh..wh.orph/"), f("x", "1")], SAME);
    one(
        "linked files of aufs",
        &[d(".wh..wh.plnk/"), f(".wh..wh.plnk/12.34", "7"), h("z", ".wh..wh.plnk/12.34"), f(".wh..wh.aufs", ""), d(".wh..wh.orph/")],
        SAME,
    );

    // Names.
    one("folders that no member states", &[f("m/n/o", "1")], SAME);
    one("names that begin at the root", &[f("/abs", "1"), d("/n/"), h("/n/abs", "/abs")], SAME);
    one("names that begin with a dot", &[d("./"), f("./x", "1"), d("./n/"), f("./n/./y", "1")], SAME);
    one("slashes in a row", &[d("n//"), f("n//x", "1")], SAME);
    let above = "Docker's unpacker, in a root of its own, takes what leads above it for what is in it; a layer that says so is not honest";
    one("a name that leads above the root", &[f("../x", "1")], Ours::OnlyWeRefuse(above));
    one("a name that leads out of its folder", &[d("r/"), f("r/../y", "1")], Ours::OnlyWeRefuse(above));
    one("a long name, as pax has it", &[f("short", "1").pax("path", format!("{deep}x"))], SAME);
    one(
        "a long name, as GNU has it",
        &[Member { content: format!("{deep}x\0").into(), ..member(b'L', "././@LongLink") }, f("short", "1")],
        SAME,
    );
    one("a long link", &[l("l", "short").pax("linkpath", format!("{deep}x"))], SAME);
    one(
        "odd names",
        &[f("two words", "1"), f("new\nline", "1"), f("\u{fc}", "1"), f("-dash", "1"), f("*", "1"), f("back\\slash", "1")],
        SAME,
    );
    one("names that are no UTF-8", &[f(b"odd\xff", "1"), f(b"\xe4/x", "1")], SAME);
    one("names that are nearly deletions", &[f(".wh", "1"), f(".whx", "1"), f("x.wh.y", "1")], SAME);
    one("a folder as very old tars have it", &[Member { kind: 0, ..member(b'0', "old/") }, Member { kind: 0, ..f("old/x", "1") }], SAME);

    // Rights and kinds.
    one("rights and owners", &[f("s", "1").mode(0o4755), d("t/").mode(0o1777), f("u", "1").mode(0).ids(1234, 100_000)], SAME);
    one("attributes", &[f("x", "1").pax("SCHILY.xattr.user.note", "kept"), f("y", "1").mode(0o755).pax(CAPABILITY, capability())], SAME);
    one("a pipe", &[member(b'6', "pipe")], SAME);
    one("devices", &[dev(b'3', "null", 1, 3), dev(b'4', "loop", 7, 0)], SAME);
    one(
        "a file of the kind that POSIX kept for later",
        &[Member { kind: b'7', ..f("x", "1") }],
        Ours::Read(Docker::Refuses("Docker unpacks no such member; POSIX says that whoever does not know the kind takes it for a file")),
    );
    one("a kind that there is not", &[f("x", "1"), member(b'V', "label")], Ours::Refused);
    let map = format!("1\n1000\n3\n{}abc", "\0".repeat(512 - 9));
    one(
        "a sparse file",
        &[f("x", map)
            .pax("GNU.sparse.major", "1")
            .pax("GNU.sparse.minor", "0")
            .pax("GNU.sparse.name", "sparse")
            .pax("GNU.sparse.realsize", "5000")],
        SAME,
    );
    one("records for all members", &[Member { content: pax_record(b"path", b"elsewhere"), ..member(b'g', "global") }, f("x", "1")], SAME);
    one("numbers in records", &[f("x", "1").pax("uid", "70000").pax("gid", "70001").pax("mtime", "1500000000.5")], SAME);

    // Ends.
    let tail = |members: &[Member], more: &[u8]| [&tar(members)[..], more].concat();
    raw("bytes behind the end", vec![tail(&[f("x", "1")], b"garbage behind")], SAME);
    raw("another tar behind the end", vec![tail(&[f("x", "1")], &tar(&[f("y", "1")]))], SAME);
    raw("many zeros behind the end", vec![tail(&[f("x", "1")], &[0; 20_000])], SAME);
    raw("no end", vec![open_tar(&[f("x", "1")])], SAME);
    raw("half an end", vec![[&open_tar(&[f("x", "1")])[..], &[0; 512]].concat()], SAME);
    raw("an end in the middle", vec![[&open_tar(&[f("x", "1")])[..], &[0; 512], &tar(&[f("y", "1")])].concat()], Ours::Refused);
    raw("an end that is cut off", vec![[&open_tar(&[f("x", "1")])[..], &[0; 100]].concat()], Ours::Refused);
    raw("a layer of no bytes", vec![Vec::new()], SAME);
    raw("a layer of no members", vec![tar(&[])], SAME);

    // Several.
    raw("one layer twice", vec![tar(&[f("x", "1"), f(".wh.file", "")]), tar(&[f("x", "1"), f(".wh.file", "")])], SAME);
    raw("deleted and made again", vec![tar(&[f(".wh.a", "")]), tar(&[d("a/"), f("a/n", "1")])], SAME);
    raw("a link, and in the next layer its folder", vec![tar(&[l("n", "real")]), tar(&[d("n/"), f("n/x", "1")])], SAME);
    raw(
        "a hard link, and in the next layer one of its names",
        vec![tar(&[f("p", "1"), h("q", "p")]), tar(&[f("p", "2"), f("a/.wh.low", "")])],
        SAME,
    );

    // What layers are packed in.
    for (name, blobs) in [
        ("an OCI layout", Blobs::Plain),
        ("a layer packed with gzip", Blobs::Gzip),
        ("a layer of two gzip members", Blobs::GzipTwice),
        ("a layer packed with zstd", Blobs::Zstd),
        ("a layer that is not to be passed on", Blobs::Foreign),
        ("an index in an index, for several machines", Blobs::Nested),
        ("no media types", Blobs::NoMediaType),
    ] {
        all.push(Layout { name, layers: vec![tar(&[d("r/"), l("l", "r"), f("l/x", name)])], form: Form::Layout(blobs), ours: SAME });
    }
    all
}

/// The record of a file's capabilities.
const CAPABILITY: &str = "SCHILY.xattr.security.capability";

/// `cap_net_raw=ep` (capabilities(7), version 2).
fn capability() -> Vec<u8> {
    let mut value = vec![0; 20];
    (value[0], value[3], value[5]) = (1, 2, 0x20);
    value
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    flate2::read::GzEncoder::new(bytes, flate2::Compression::fast()).read_to_end(&mut packed).expect("into memory");
    packed
}

impl Layout {
    fn all_layers(&self) -> Vec<Vec<u8>> {
        [vec![base()], self.layers.clone()].concat()
    }

    fn config(&self) -> Vec<u8> {
        let ids: Vec<String> = self.all_layers().iter().map(|layer| format!("sha256:{}", Sha256::of(layer))).collect();
        let architecture = twostage_image::architecture();
        let config = serde_json::json!({ "architecture": architecture, "os": "linux", "config": { "Cmd": ["/x"] },
            "rootfs": { "type": "layers", "diff_ids": ids } });
        config.to_string().into_bytes()
    }

    /// Writes it below a folder. Gives where it is for us, and where for Docker.
    fn write(&self, folder: &Path, tag: &str) -> (PathBuf, PathBuf) {
        // Docker takes archives of `docker save`, so it gets every image as one.
        let archive = folder.join("image.tar");
        let layers = self.all_layers();
        let names: Vec<String> = (0..layers.len()).map(|number| format!("{number}/layer.tar")).collect();
        let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": [tag], "Layers": names }]).to_string();
        let mut members = vec![f("config.json", self.config()), f("manifest.json", manifest)];
        members.extend(names.iter().zip(layers).map(|(name, layer)| f(name, layer)));
        fs::write(&archive, tar(&members)).expect("written");
        let Form::Layout(blobs) = self.form else { return (archive.clone(), archive) };
        let layout = folder.join("layout");
        self.layout(&layout, blobs);
        (layout, archive)
    }

    fn layout(&self, folder: &Path, blobs: Blobs) {
        let place = folder.join("blobs/sha256");
        fs::create_dir_all(&place).expect("a folder");
        let put = |bytes: &[u8], media_type: &str| {
            let digest = Sha256::of(bytes);
            fs::write(place.join(digest.to_string()), bytes).expect("written");
            let mut descriptor = serde_json::json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() });
            if blobs == Blobs::NoMediaType
                && !media_type.contains("manifest")
                && !media_type.contains("index")
                && !media_type.contains("layer")
            {
                descriptor.as_object_mut().expect("an object").remove("mediaType");
            }
            descriptor
        };
        let layer = |tar: &Vec<u8>| {
            let kind = |ending: &str| format!("application/vnd.oci.image.layer.v1.tar{ending}");
            match blobs {
                Blobs::Gzip => put(&gzip(tar), &kind("+gzip")),
                Blobs::GzipTwice => put(&[gzip(&tar[..700]), gzip(&tar[700..])].concat(), &kind("+gzip")),
                Blobs::Zstd => put(&zstd::encode_all(&tar[..], 1).expect("into memory"), &kind("+zstd")),
                Blobs::Foreign => put(tar, "application/vnd.oci.image.layer.nondistributable.v1.tar"),
                _ => put(tar, &kind("")),
            }
        };
        let layers: Vec<serde_json::Value> = self.all_layers().iter().map(layer).collect();
        let config = put(&self.config(), "application/vnd.oci.image.config.v1+json");
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let mut manifest = serde_json::json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers });
        if blobs == Blobs::NoMediaType {
            manifest.as_object_mut().expect("an object").remove("mediaType");
        }
        let mut entry = put(manifest.to_string().as_bytes(), kind);
        if blobs == Blobs::Nested {
            let index = "application/vnd.oci.image.index.v1+json";
            let of = |architecture: &str, entry: &serde_json::Value| {
                let mut entry = entry.clone();
                entry["platform"] = serde_json::json!({ "os": "linux", "architecture": architecture });
                entry
            };
            let attestation = serde_json::json!({ "mediaType": kind, "digest": format!("sha256:{}", "5".repeat(64)), "size": 5,
                "platform": { "os": "unknown", "architecture": "unknown" }, "annotations": { "vnd.docker.reference.type": "attestation-manifest" } });
            let missing = serde_json::json!({ "mediaType": kind, "digest": format!("sha256:{}", "6".repeat(64)), "size": 5 });
            let list = [of("s390x", &missing), of(twostage_image::architecture(), &entry), attestation];
            entry = put(serde_json::json!({ "schemaVersion": 2, "mediaType": index, "manifests": list }).to_string().as_bytes(), index);
        }
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": [entry] });
        fs::write(folder.join("index.json"), index.to_string()).expect("written");
    }

    /// How many members its layers have, but for records that speak of others.
    fn members(&self) -> usize {
        let count = |layer: &Vec<u8>| {
            let mut tarball = Tarball::new(&layer[..]);
            let mut count = 0;
            while let Ok(Some(_)) = tarball.next() {
                count += 1;
            }
            count
        };
        self.layers.iter().map(count).sum()
    }
}

/// A tree, one line a path: what it is, rights, owners, content, and which names are one file.
type Lines = BTreeMap<String, String>;

/// What every engine puts into its containers.
const OF_ENGINES: [&str; 5] = ["dev", "proc", "sys", "etc", ".dockerenv"];

fn of_tar(tar: impl Read, devices: bool) -> Lines {
    let mut tarball = Tarball::new(tar);
    let mut found: BTreeMap<String, (String, String)> = BTreeMap::new();
    while let Some(header) = tarball.next().expect("a tar") {
        let path = twostage_image::path::clean(&header.path).expect("a path");
        let mut content = Vec::new();
        tarball.read_to_end(&mut content).expect("a file");
        let first = path.split('/').next().unwrap_or_default();
        if path.is_empty() || OF_ENGINES.contains(&first) || (!devices && matches!(header.kind, b'3' | b'4')) {
            continue;
        }
        let inode = match header.kind {
            b'1' => {
                let target = twostage_image::path::clean(&header.link).expect("a path");
                found.get(&target).map_or(target, |(inode, _)| inode.clone())
            }
            _ => path.clone(),
        };
        let line = if header.kind == b'1' { String::new() } else { line_of(&header, &content) };
        found.insert(path, (inode, line));
    }
    lines(found)
}

fn line_of(header: &Header, content: &[u8]) -> String {
    let xattrs: Vec<String> = header
        .xattrs
        .iter()
        .filter(|(name, _)| name.starts_with(b"user.") || *name == b"security.capability")
        .map(|(name, value)| format!(" {}={}", shown(&from_bytes(name)), Sha256::of(value).short()))
        .collect();
    let link = shown(&from_bytes(&header.link));
    let owner = format!("{:04o} {}:{}", header.mode & 0o7777, header.uid, header.gid);
    match header.kind {
        b'0' => format!("file {owner} {} {}{}", content.len(), Sha256::of(content).short(), xattrs.concat()),
        b'2' => format!("link {}:{} -> {link}", header.uid, header.gid),
        b'3' | b'4' => format!("device {} {owner} {},{}", char::from(header.kind), header.major, header.minor),
        b'5' => format!("folder {owner}"),
        kind => format!("{} {owner}", char::from(kind)),
    }
}

fn of_image(image: &Image, devices: bool) -> Lines {
    let tree = Tree::new(&image.layers);
    let mut found = BTreeMap::new();
    for (path, node) in tree.iter() {
        let Some(entry) = node.entry else {
            found.insert(path.to_string(), (path.to_string(), "folder 0755 0:0".to_string()));
            continue;
        };
        if path.is_empty() {
            continue;
        }
        let owner = format!("{:04o} {}:{}", entry.mode & 0o7777, entry.uid, entry.gid);
        let xattrs: Vec<String> = entry
            .xattrs
            .iter()
            .filter(|(name, _)| name.starts_with("user.") || *name == "security.capability")
            .map(|(name, value)| format!(" {}={}", shown(name), Sha256::of(value).short()))
            .collect();
        let line = match &entry.kind {
            Kind::File { size, sha256 } => format!("file {owner} {size} {}{}", sha256.short(), xattrs.concat()),
            Kind::Dir => format!("folder {owner}"),
            Kind::Symlink { target } => format!("link {}:{} -> {}", entry.uid, entry.gid, shown(target)),
            Kind::Char { .. } | Kind::Block { .. } if !devices => continue,
            Kind::Char { major, minor } => format!("device 3 {owner} {major},{minor}"),
            Kind::Block { major, minor } => format!("device 4 {owner} {major},{minor}"),
            Kind::Fifo => format!("6 {owner}"),
            kind => format!("{kind:?}"),
        };
        found.insert(path.to_string(), (format!("{:p}", std::ptr::from_ref(entry)), line));
    }
    lines(found)
}

/// Of all names of a file the first in order is the file.
fn lines(found: BTreeMap<String, (String, String)>) -> Lines {
    let mut of: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for (path, (inode, line)) in &found {
        let entry = of.entry(inode).or_insert((path, ""));
        if !line.is_empty() {
            entry.1 = line;
        }
    }
    let named = |path: &String, inode: &String| match of.get(inode.as_str()) {
        Some((first, line)) if *first == path => (*line).to_string(),
        Some((first, _)) => format!("= {}", shown(first)),
        None => String::new(),
    };
    found.iter().map(|(path, (inode, _))| (shown(path), named(path, inode))).collect()
}

fn stream(path: &Path) -> twostage_engine::ByteStream {
    let bytes = fs::read(path).expect("read");
    let (mut writer, stream) = pipe();
    std::thread::spawn(move || std::io::copy(&mut &bytes[..], &mut writer).and_then(|_| writer.finish()));
    stream
}

/// The tree that a container has, or why there is none.
async fn container(engine: &Engine, archive: &Path, name: &str, devices: bool) -> Result<Lines, String> {
    let told = |error: twostage_model::Error| format!("{error}: {}", error.causes().join(": "));
    engine.load(stream(archive)).await.map_err(told)?;
    let lines = async {
        let container = engine.create(name).await?;
        let copied = container.copy_out("/").await?;
        let lines = tokio::task::spawn_blocking(move || of_tar(copied, devices)).await;
        container.remove().await?;
        Ok(lines.expect("a tree"))
    };
    let lines = lines.await.map_err(told);
    engine.remove_image(name).await.map_err(told)?;
    lines
}

fn open(path: &Path) -> Result<(Store, Image), String> {
    let told = |error: twostage_model::Error| format!("{error}: {}", error.causes().join(": "));
    let store = Store::open(path, None).map_err(told)?;
    let image = store.read(&wanted).map_err(told)?;
    Ok((store, image))
}

/// The flat image, above so many layers.
fn flat(store: &Store, image: &Image, parent: usize, to: &Path) -> Result<Image, String> {
    let told = |error: twostage_model::Error| format!("{error}: {}", error.causes().join(": "));
    let flat = flatten(image, parent).map_err(told)?;
    let config = |diff_id| flat.config(diff_id);
    let new = NewImage {
        store,
        kept: parent,
        delta: flat.delta.as_ref(),
        compression: Compression::Gzip,
        name: Some("flat:1".into()),
        config: &config,
    };
    new.write_archive(to).map_err(told)?;
    open(to).map(|(_, image)| image)
}

/// Everything of one layout but Docker. Gives the tree, where there is one.
async fn ours(layout: &Layout, engine: &Engine, place: &Path, archive: &Path, name: &str, folder: &Path) -> Option<(Lines, Image)> {
    let what = layout.name;
    let read = open(place);
    let run = container(engine, archive, name, false).await;
    let (store, image) = match (layout.ours, read) {
        (Ours::Refused | Ours::OnlyWeRefuse(_), read) => {
            assert!(read.is_err(), "{what} is read");
            assert!(run.is_err(), "{what} is run");
            return None;
        }
        (_, read) => read.unwrap_or_else(|error| panic!("{what}: {error}")),
    };
    let tree = of_image(&image, true);
    match layout.ours {
        Ours::OnlyRead(_) => assert!(run.is_err(), "{what} is run"),
        // (Without a device: no user namespace may make one.)
        _ => assert_eq!(run.unwrap_or_else(|error| panic!("{what}: {error}")), of_image(&image, false), "{what}: run"),
    }
    for parent in [0, 1] {
        match flat(&store, &image, parent, &folder.join("flat.tar")) {
            Ok(flat) => {
                assert_eq!(of_image(&flat, true), tree, "{what}: flat above {parent} layers");
                let difference = Difference::of(&image, &flat).expect("compared");
                assert!(difference.is_empty(), "{what}: {}", difference.to_text());
            }
            Err(error) => assert!(matches!(layout.ours, Ours::OnlyRead(_)), "{what}: {error}"),
        }
    }
    let report = audit(&image, Base::Layers(1)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let counted: u64 = report.layers.iter().map(|layer| layer.files + layer.folders).sum();
    assert_eq!(counted, layout.members() as u64, "{what}: every member is in a row: {}", report.to_text());
    for residue in report.residue().filter(|one| one.layer.is_some() && !matches!(one.rule, "whiteout" | "duplicate" | "trailing")) {
        let path = shown(residue.at.trim_start_matches('/'));
        assert!(tree.contains_key(&path), "{what}: {path} is residue, and nowhere");
    }
    Some((tree, image))
}

#[test]
fn every_reader_of_layers_sees_the_tree_that_docker_makes_or_it_is_known_why_not() {
    uses(Used::Engine);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let every = step(9);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let all = layouts();
    assert!(all.len() >= 60, "{}", all.len());
    let (engine, docker) = runtime.block_on(async {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_twostage"));
        let engine = Engine::embedded(Some(&folder.path().join("store")), Some(program)).await.expect("a store");
        (engine, Engine::daemon(Some(EngineKind::Docker), None).await.expect("Docker answers"))
    });
    let mut wrong = Vec::new();
    for (number, layout) in all.iter().enumerate() {
        let folder = folder.path().join(number.to_string());
        fs::create_dir(&folder).expect("a folder");
        // (What is not as in Docker is asked for each time.)
        let judged = number % every == 0 || !matches!(layout.ours, SAME);
        let name = format!("{}:latest", image_name(&format!("layout-{number}")));
        let check = || runtime.block_on(compared(layout, &engine, judged.then_some(&docker), &name, &folder));
        // One that is wrong hides none of the others.
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err() {
            wrong.push(layout.name);
        }
    }
    runtime.block_on(engine.settle());
    assert!(wrong.is_empty(), "{wrong:?}: see above");
}

async fn compared(layout: &Layout, engine: &Engine, docker: Option<&Engine>, name: &str, folder: &Path) {
    let what = layout.name;
    let (place, archive) = layout.write(folder, name);
    let known = ours(layout, engine, &place, &archive, name, folder).await;
    let Some(docker) = docker else { return };
    match (layout.ours, known, container(docker, &archive, name, true).await) {
        (Ours::Refused | Ours::OnlyRead(_) | Ours::Read(Docker::Refuses(_)), _, Err(_)) | (Ours::OnlyWeRefuse(_), None, Ok(_)) => {}
        (Ours::Read(Docker::Same), Some((tree, image)), Ok(exported)) => {
            assert_eq!(without_notes(&tree), without_notes(&exported), "{what}: Docker");
            as_exported(&image, &archive, name, folder);
        }
        (Ours::Read(Docker::Differs(_)), Some((tree, _)), Ok(exported)) => {
            assert_ne!(without_notes(&tree), without_notes(&exported), "{what}: Docker");
        }
        (expected, _, exported) => panic!("{what}: {expected:?}, and Docker: {exported:?}"),
    }
}

/// Docker unpacks the attributes of users and leaves them out where it packs a tree (pkg/archive, ReadSecurityXattrToTarHeader).
fn without_notes(lines: &Lines) -> Lines {
    let without = |line: &String| line.split(' ').filter(|word| !word.starts_with("user.")).collect::<Vec<_>>().join(" ");
    lines.iter().map(|(path, line)| (path.clone(), without(line))).collect()
}

/// `diff` of an image and of what Docker exports of it, imported.
fn as_exported(image: &Image, archive: &Path, name: &str, folder: &Path) {
    let script = "set -e; docker load --quiet --input \"$1\" > /dev/null; id=$(docker create \"$2\"); docker export --output \"$3\" $id
        docker rm $id > /dev/null; docker image rm --force \"$2\" > /dev/null";
    let exported = folder.join("exported.tar");
    run(Command::new("sh").args(["-c", script, "sh"]).arg(archive).arg(name).arg(&exported)).ok();
    let layer = fs::read(&exported).expect("read");
    let config = serde_json::json!({ "architecture": "amd64", "os": "linux", "config": { "Cmd": ["/x"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", Sha256::of(&layer))] } });
    let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": [], "Layers": ["layer.tar"] }]).to_string();
    let again = folder.join("again.tar");
    fs::write(&again, tar(&[f("config.json", config.to_string()), f("manifest.json", manifest), f("layer.tar", layer)])).expect("written");
    let (_, other) = open(&again).expect("what Docker exports is read");
    let difference = Difference::of(image, &other).expect("compared");
    let named: Vec<&str> = difference.files.iter().map(|file| file.path.as_str()).collect();
    let tree = Tree::new(&image.layers);
    let has_note = |entry: &Entry| entry.xattrs.keys().any(|key| key.starts_with("user."));
    let noted = |path: &str| tree.get(path.trim_start_matches('/')).and_then(|node| node.entry).is_some_and(has_note);
    let named = named.into_iter().filter(|path| !noted(path));
    let others = named.filter(|path| !OF_ENGINES.contains(&path.split('/').nth(1).unwrap_or_default()) && *path != "/");
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&str>::new(), "{}", difference.to_text());
}

/// The page names each of them, with its reason.
#[test]
fn what_is_not_as_in_docker_is_on_the_page_of_layers() {
    let page = fs::read_to_string(root().join("docs/layers.md")).expect("the page");
    let mut rows = Vec::new();
    for layout in layouts() {
        let (docker, ours, why) = match layout.ours {
            Ours::Read(Docker::Same) | Ours::Refused => continue,
            Ours::Read(Docker::Refuses(why)) => ("refuses it", "read it", why),
            Ours::Read(Docker::Differs(why)) => ("has another tree", "read it", why),
            Ours::OnlyWeRefuse(why) => ("reads it", "refuse it", why),
            Ours::OnlyRead(why) => ("refuses it", "read it, and refuse to run it", why),
        };
        rows.push(format!("| {} | {docker} | {ours} | {why} |", layout.name));
    }
    let missing: Vec<&String> = rows.iter().filter(|row| !page.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "docs/layers.md lacks\n{}", missing.iter().map(|row| row.as_str()).collect::<Vec<_>>().join("\n"));
    let written = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| layout") && !line.starts_with("| ---")).count();
    assert_eq!(written, rows.len(), "and it has others");
}
