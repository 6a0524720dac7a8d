//! A layer packed with gzip is read whole by whoever reads gzip, members of it or not.

use crate::support::{run, tool, twostage};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Prints how many bytes the tar has, and what the last file in it says.
const PYTHON: &str = "import sys,tarfile
n=0
with tarfile.open(sys.argv[1],'r|gz') as t:
    for m in t:
        n+=1
        if m.isfile(): last=t.extractfile(m).read()
print(n,last[-5:].decode())";

const PERL: &str = "use IO::Uncompress::Gunzip qw(gunzip $GunzipError); my $out; \
    gunzip($ARGV[0] => \\$out, MultiStream => 0) or die $GunzipError; print length($out), qq(\\n);";

/// A base of one file and a layer of 6 MB, half of which packs well.
fn image(folder: &Path) {
    // What was packed is packed again.
    let script = "set -e; mkdir -p one/a two/b; echo base > one/a/x; seq 400000 > two/b/numbers; head -c 3000000 /dev/urandom > two/b/noise; \
        printf 'last\\n' > two/c; for n in one two; do tar --sort=name --mtime=@0 --owner=0 --group=0 -C $n -cf $n.tar .; done";
    run(Command::new("sh").args(["-c", script]).current_dir(folder)).ok();
    let digest = |name: &str| twostage_model::Sha256::of(&fs::read(folder.join(name)).expect("a tar"));
    let config = serde_json::json!({ "architecture": twostage_image::architecture(), "os": "linux", "config": { "Cmd": ["x"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", digest("one.tar")), format!("sha256:{}", digest("two.tar"))] } });
    fs::write(folder.join("config.json"), config.to_string()).expect("written");
    let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": ["packed:1"], "Layers": ["one.tar", "two.tar"] }]);
    fs::write(folder.join("manifest.json"), manifest.to_string()).expect("written");
    let script =
        "set -e; for n in one two; do gzip $n.tar; mv $n.tar.gz $n.tar; done; tar -cf image.tar config.json manifest.json one.tar two.tar";
    run(Command::new("sh").args(["-c", script]).current_dir(folder)).ok();
}

#[test]
fn six_readers_that_share_no_code_read_the_whole_of_a_packed_layer() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    image(folder.path());
    let layout = folder.path().join("layout");
    let from = format!("docker-archive:{}", folder.path().join("image.tar").display());
    run(twostage().args(["flatten", &from, "--all", "--to", &format!("oci:{}:flat", layout.display())])).ok();
    let inspected = tool("skopeo", &["inspect", "--raw", &format!("oci:{}:flat", layout.display())]).ok().out;
    let manifest: serde_json::Value = serde_json::from_str(&inspected).expect("a manifest");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let digest = manifest["layers"][0]["digest"].as_str().expect("a digest");
    let packed = layout.join("blobs/sha256").join(&digest[7..]).display().to_string();
    let sh = |script: &str| run(Command::new("sh").args(["-c", script, "sh", &packed])).ok().out.trim().to_string();

    // gzip itself: whole, and nothing behind it.
    assert_eq!(sh("gzip -t < \"$1\" && echo good"), "good");
    let length = sh("gzip -dc < \"$1\" | wc -c");
    let members = sh("gzip -dc < \"$1\" | tar -t | wc -l");
    assert!(length.parse::<u64>().expect("a number") > 5_000_000, "{length}");
    assert_eq!(tool("python3", &["-c", PYTHON, &packed]).ok().out.trim(), format!("{members} last"), "Python's tarfile, on a stream");
    assert_eq!(tool("perl", &["-e", PERL, &packed]).ok().out.trim(), length, "Perl, the first member only");
    assert_eq!(sh("bsdtar -tf \"$1\" | wc -l"), members, "libarchive");
    assert_eq!(sh("busybox gzip -dc < \"$1\" | wc -c"), length, "busybox");
    // Go's, which checks the digest of the tar.
    let copy = format!("docker-archive:{}", folder.path().join("copy.tar").display());
    let named = format!("{copy}:packed:2");
    tool("skopeo", &["copy", "--quiet", "--insecure-policy", &format!("oci:{}:flat", layout.display()), &named]).ok();
    assert_eq!(run(twostage().args(["diff", &from, &copy])).ok().out, "no difference\n");
}
