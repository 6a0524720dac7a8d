//! What becomes of a container's files: layers, unpacked and packed, are what Docker makes of them.

use super::*;

#[test]
fn deletions_come_and_go_as_layers_say_them() {
    let place = Place::new("whiteouts");
    let mut root = place.root();
    let lower = Tar::new()
        .dir("a/", 0o755)
        .file("a/one", 0o644, b"1")
        .file("a/two", 0o644, b"2")
        .dir("b/", 0o750)
        .file("b/old", 0o644, b"old")
        .file("c", 0o644, b"c")
        .end();
    place.sandbox.unpack(&lower[..], &place.path("lower")).expect("it unpacks");
    root.lowers.push(place.path("lower"));
    place.says(&root, "rm a/one c; rm -r b; mkdir b new; echo new > b/new; mkdir -p x/y r; mv r renamed; mkdir c");
    let tar = place.packed(&root);
    let expected = [
        "5 0755 0:0 a/",
        "0 0000 0:0 a/.wh.one",
        "5 0755 0:0 b/",
        "0 0755 0:0 b/.wh..wh..opq",
        "0 0644 0:0 b/new \"new\\n\"",
        "5 0755 0:0 c/",
        "0 0755 0:0 c/.wh..wh..opq",
        "5 0755 0:0 new/",
        // The kernel marks what was renamed, and what replaces a file, though it hides nothing. Docker writes that.
        "5 0755 0:0 renamed/",
        "0 0755 0:0 renamed/.wh..wh..opq",
        "5 0755 0:0 x/",
        "5 0755 0:0 x/y/",
    ];
    assert_eq!(dump(&tar), expected);
    // The same layer, unpacked and packed again.
    place.sandbox.unpack(&tar[..], &place.path("again")).expect("it unpacks");
    let again =
        Root { lowers: root.lowers.clone(), init: None, upper: Some(Upper { dir: place.path("again"), work: place.path("again-work") }) };
    assert_eq!(place.packed(&again), tar);
    let shows = Root { lowers: [root.lowers.clone(), vec![place.path("again")]].concat(), init: None, upper: Some(place.upper("top")) };
    assert_eq!(place.says(&shows, "ls a b; ls -d c new; cat a/two"), ["a:", "two", "", "b:", "new", "c", "new", "2"]);
}

#[test]
fn a_tar_cannot_reach_out_of_its_layer() {
    let place = Place::new("hostile");
    let outside = place.path("outside");
    fs::create_dir(&outside).expect("a folder");
    fs::write(outside.join("file"), "safe").expect("a file");
    let out = outside.to_string_lossy().into_owned();
    let try_it = |name: &str, tar: Vec<u8>| place.sandbox.unpack(&tar[..], &place.path(name));
    assert!(try_it("dots", Tar::new().file("../outside/file", 0o644, b"bad").end()).is_err());
    assert!(try_it("wh", Tar::new().file(".wh...", 0o644, b"").end()).is_err());
    // Links lead to places within the layer.
    let through = Tar::new().link("way", &out).file("way/file", 0o644, b"bad").file("way/new", 0o644, b"bad");
    try_it("link", through.end()).expect("it stays inside");
    try_it("up", Tar::new().link("up", "../../../../../..").file("up/etc/x", 0o644, b"in").end()).expect("it stays inside");
    assert_eq!(fs::read_to_string(place.path("up/etc/x")).expect("inside"), "in");
    let hard = |target: &str| Tar::new().add("h", tar::EntryType::Link, 0o644, 0, target, b"").end();
    assert!(try_it("hard", hard(out.trim_start_matches('/'))).is_err());
    assert!(try_it("hard-up", hard("../outside/file")).is_err());
    // A link as the last name is replaced.
    let last = Tar::new().link("f", &format!("{out}/file")).file("f", 0o644, b"bad");
    try_it("last", last.end()).expect("it stays inside");
    // A deletion through a link.
    try_it("whlink", Tar::new().link("way", &out).file("way/.wh.file", 0, b"").end()).expect("it stays inside");
    let cut = Tar::new().file("file", 0o644, &[b'x'; 5000]).end();
    assert!(try_it("cut", cut[..2000].to_vec()).is_err());
    assert!(try_it("odd", Tar::new().add("odd", tar::EntryType::new(b'Z'), 0o644, 0, "", b"").end()).is_err());
    assert_eq!(fs::read_dir(&outside).expect("a folder").count(), 1);
    assert_eq!(fs::read_to_string(outside.join("file")).expect("a file"), "safe");
    // The same for what is put into a tree.
    let root = place.root();
    place.sandbox.put(&root, &Tar::new().link("way", &out).file("way/file", 0o644, b"bad").end()[..], true).expect("it stays inside");
    assert_eq!(fs::read_to_string(outside.join("file")).expect("a file"), "safe");
    assert!(place.sandbox.put(&root, &Tar::new().file("../x", 0o644, b"bad").end()[..], true).is_err());
}

/// A tar with a file that has attributes.
fn with_attributes(name: &str, attributes: &[(&str, &[u8])]) -> Vec<u8> {
    let mut records = Vec::new();
    for (key, value) in attributes {
        let rest = key.len() + value.len() + 3;
        let length = (rest..).find(|length| *length == rest + length.to_string().len()).expect("a length");
        records.extend([length.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat());
    }
    Tar::new().add("pax", tar::EntryType::XHeader, 0o644, 0, "", &records).file(name, 0o4755, b"program").end()
}

#[test]
fn modes_and_capabilities_of_programs_survive() {
    let place = Place::new("attributes");
    let capability: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = with_attributes(
        "capable",
        &[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.note", b"kept"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ],
    );
    let mut root = place.root();
    place.sandbox.unpack(&layer[..], &place.path("layer")).expect("it unpacks");
    root.lowers.push(place.path("layer"));
    place.says(&root, "mv capable moved; echo s > s; chmod 6755 s");
    let tar = place.packed(&root);
    assert_eq!(dump(&tar), ["0 0000 0:0 .wh.capable", "0 4755 0:0 moved \"program\"", "0 6755 0:0 s \"s\\n\""]);
    let mut archive = tar::Archive::new(&tar[..]);
    let mut found = BTreeMap::new();
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        for record in entry.pax_extensions().expect("records").into_iter().flatten().flatten() {
            found.insert(record.key().expect("text").to_string(), record.value_bytes().to_vec());
        }
    }
    let wanted = [("SCHILY.xattr.security.capability", capability), ("SCHILY.xattr.user.note", b"kept")];
    assert_eq!(found, wanted.map(|(key, value)| (key.to_string(), value.to_vec())).into());
}

#[test]
fn a_hundred_and_twenty_layers_are_one_tree() {
    let place = Place::new("layers");
    let mut root = place.root();
    for n in 0..120 {
        let layer = place.path(&format!("layer-{n}"));
        let tar = Tar::new().file(&format!("file-{n}"), 0o644, b"x").file("last", 0o644, n.to_string().as_bytes()).end();
        place.sandbox.unpack(&tar[..], &layer).expect("it unpacks");
        root.lowers.push(layer);
    }
    assert_eq!(place.says(&root, "ls / | grep -c file-; cat /last"), ["120", "119"]);
    assert_eq!(dump(&place.packed(&root)), [""; 0]);
}

#[test]
fn nothing_of_the_container_itself_gets_into_the_layer() {
    let place = Place::new("clean");
    let mut root = place.root();
    place.says(&root, "true");
    assert_eq!(dump(&place.packed(&root)), [""; 0]);
    // The folder of a mount point shows what the image says of it.
    assert_eq!(place.says(&root, "stat -c '%a %u %g %Y' /etc /home; touch /etc/new"), ["755 0 0 1000000000", "755 0 0 1000000000"]);
    assert_eq!(dump(&place.packed(&root)), ["5 0755 0:0 etc/", "0 0644 0:0 etc/new"]);
    place.sandbox.init_layer(&root.lowers, &place.path("init")).expect("an init layer");
    root.init = Some(place.path("init"));
    root.upper = Some(place.upper("upper-2"));
    assert_eq!(place.says(&root, "stat -c '%a %Y' /etc; readlink /etc/mtab; cat /etc/hostname"), ["755 1000000000", "/proc/mounts", "box"]);
    assert_eq!(dump(&place.packed(&root)), [""; 0]);
    place.says(&root, "rm /etc/mtab");
    assert_eq!(dump(&place.packed(&root)), ["5 0755 0:0 etc/"]);
    let made = place.path("init/etc/resolv.conf");
    assert_eq!(fs::metadata(made).expect("a mount point").len(), 0);
}

#[test]
fn names_are_bytes_and_stand_in_the_order_of_go() {
    let place = Place::new("names");
    let root = place.root();
    let script = "mkdir d d.x; echo 1 > d/f; echo 1 > d-; echo 1 > \"$(printf 'd/\\377\\344')\"; ln -s \"$(printf '\\377')\" d/l; \
        n=$(printf '%0120d' 7); mkdir -p long/$n; echo 1 > long/$n/$n; ln d/f z; ln -s t s; ln s s2; nc -lU /sock & sleep 0.3";
    place.says(&root, script);
    let tar = place.packed(&root);
    let long = format!("{:0120}", 7);
    assert_eq!(
        dump(&tar),
        [
            "5 0755 0:0 d/",
            "0 0644 0:0 d/f \"1\\n\"",
            "2 0777 0:0 d/l -> \u{fffd}",
            "0 0644 0:0 d/\u{fffd}\u{fffd} \"1\\n\"",
            "0 0644 0:0 d- \"1\\n\"",
            "5 0755 0:0 d.x/",
            "5 0755 0:0 long/",
            &format!("5 0755 0:0 long/{long}/"),
            &format!("0 0644 0:0 long/{long}/{long} \"1\\n\""),
            "2 0777 0:0 s -> t",
            "1 0777 0:0 s2 -> s",
            "1 0644 0:0 z -> d/f",
        ]
    );
    // The same, whoever packs it.
    assert_eq!(place.packed(&root), tar);
    place.sandbox.unpack(&tar[..], &place.path("again")).expect("it unpacks");
    let again = Root { upper: Some(Upper { dir: place.path("again"), work: place.path("again-work") }), ..root };
    assert_eq!(place.packed(&again), tar);
}

/// Whatever a layer may hold, with times that do not depend on the clock.
const EVERYTHING: &str = r#"
rm -r /home; mkdir /home; echo new > /home/new
rm /etc/group; rm -r /tmp; mkdir -m 1777 /tmp
mkdir -p /opt/deep/er; echo 1 > /opt/deep/er/f; ln /opt/deep/er/f /opt/hard; ln -s deep /opt/soft; ln -s deep/er /opt/deep.er; mkfifo /opt/p
echo s > /opt/suid; chown 1000:100 /opt/suid; chmod 6750 /opt/suid
n=$(printf '%0120d' 7); mkdir -p /long/$n; echo 1 > /long/$n/$n; ln -s $n/$n /long/link
echo 1 > "/opt/$(printf '\303\244')"; echo 1 > "/opt/$(printf '\377')"
echo 1 > /opt/big-owner; chown 3000000:70000 /opt/big-owner
mkdir -m 700 /opt/private; mv /bin/yes /opt/yes; : > /opt/empty; echo x >> /etc/passwd
find / -xdev ! -path '/proc*' ! -path '/sys*' ! -path '/dev*' ! -path /etc/hosts ! -path /etc/hostname ! -path /etc/resolv.conf ! -path /.dockerenv \
    -newer /bin/busybox -exec touch -h -d @1234567890 {} +
"#;

#[test]
#[ignore = "needs a Docker 26 at the address in DOCKER_26, and its client"]
fn a_layer_is_the_same_bytes_as_dockers() {
    let address = std::env::var("DOCKER_26").expect("DOCKER_26 is the address of a Docker 26");
    let docker = |args: &[&str]| {
        let out = Command::new("docker").arg("-H").arg(&address).args(args).output().expect("docker runs");
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    };
    let place = Place::new("docker");
    let root = place.root();
    fs::write(place.path("tar"), busybox()).expect("a file");
    let image = String::from_utf8(docker(&["import", &place.path("tar").to_string_lossy()])).expect("an id");
    let container = docker(&["create", "--network=none", image.trim(), "/bin/sh", "-c", EVERYTHING]);
    let container = String::from_utf8(container).expect("an id");
    docker(&["start", "-a", container.trim()]);
    let committed = String::from_utf8(docker(&["commit", container.trim()])).expect("an id");
    let saved = docker(&["save", committed.trim()]);
    let mut layers = Vec::new();
    for entry in tar::Archive::new(&saved[..]).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("it can be read");
        if bytes.len() > 10_000 && bytes.get(257..262) == Some(b"ustar") {
            layers.push(bytes);
        }
    }
    docker(&["rm", container.trim()]);
    docker(&["rmi", "-f", committed.trim(), image.trim()]);
    place.says(&root, EVERYTHING);
    let ours = place.packed(&root);
    let theirs = layers.iter().find(|layer| !dump(layer).iter().any(|line| line.ends_with(" bin/busybox"))).expect("its layer");
    // Docker says when something was deleted, and whose deletion it was; we do not.
    let without_deletions = |tar: &[u8]| {
        let (mut left, mut kept, mut deletions) = (tar, Vec::new(), Vec::new());
        while left.len() >= 512 {
            let size = usize::from_str_radix(std::str::from_utf8(&left[124..135]).expect("digits"), 8).unwrap_or(0);
            let (member, rest) = left.split_at((512 + size.div_ceil(512) * 512).min(left.len()));
            let name: Vec<u8> = member[..100].iter().copied().take_while(|byte| *byte != 0).collect();
            let name = String::from_utf8_lossy(&name).into_owned();
            if name.contains(".wh.") {
                deletions.push(name);
            } else {
                kept.push(member.to_vec());
            }
            left = rest;
        }
        (kept, deletions)
    };
    let (ours, theirs) = (without_deletions(&ours), without_deletions(theirs));
    assert_eq!(ours.1, theirs.1);
    assert_eq!(dump(&ours.0.concat()), dump(&theirs.0.concat()));
    for (ours, theirs) in ours.0.iter().zip(&theirs.0) {
        assert!(ours == theirs, "{:?}\n{:?}", String::from_utf8_lossy(ours), String::from_utf8_lossy(theirs));
    }
}
