//! Owners with high numbers: kept, or refused, never another's.

use super::*;
use tar::EntryType;

/// Numbers that images have: the highest that every older map reached, OpenShift's, what a signed number cannot hold, the
/// last one of the first extent, `nfsnobody` of old systems.
const KEPT: [u32; 5] = [134_217_728, 1_000_680_000, 2_147_483_648, 2_294_967_294, 4_294_967_294];

#[test]
fn high_numbers_are_kept_from_a_command_and_from_a_layer() {
    let place = Place::new("ids");
    let root = place.root();
    for id in KEPT {
        let said = place.says(&root, &format!("touch /f{id} && chown {id}:{id} /f{id} && stat -c '%u:%g' /f{id}"));
        assert_eq!(said, [format!("{id}:{id}")]);
    }
    let packed = place.packed(&root);
    let upper = place.path("again");
    place.sandbox.unpack(&packed[..], &upper).expect("it unpacks");
    let again = Root { lowers: vec![place.path("base"), upper], init: None, upper: Some(place.upper("second")) };
    let said = place.says(&again, "cd / && stat -c '%u' f*");
    let mut wanted = KEPT.map(|id| id.to_string());
    wanted.sort_by_key(|id| format!("f{id}"));
    assert_eq!(said, wanted);
    // A command runs as one of them, too, and what it writes is its own.
    let cmd = ["/bin/sh", "-c", "id -u; id -g; touch /tmp/mine; stat -c %u:%g /tmp/mine"].map(String::from);
    place.says(&root, "mkdir -m 1777 -p /tmp");
    let (code, lines) = place.run_job(Job { cmd: &cmd, user: "1000680000:1000680001", ..job(&root) });
    assert_eq!((code, lines), (0, vec!["1000680000".into(), "1000680001".into(), "1000680000:1000680001".into()]));
}

#[test]
fn numbers_that_no_map_reaches_are_errors_and_never_root() {
    let place = Place::new("ids-not");
    let root = place.root();
    let said = place.says(&root, "exec 2>&-; touch /f; chown 3000000000 /f || stat -c %u /f; chown 0:3000000000 /f || echo refused");
    assert_eq!(said, ["0", "refused"]);
    for id in [3_000_000_000, u64::from(u32::MAX), 1 << 40] {
        let tar = Tar::new().add("f", EntryType::Regular, 0o644, id, "", b"").0.into_inner().expect("a tar");
        let error = place.sandbox.unpack(&tar[..], &place.path("refused")).expect_err("no such id");
        let told = format!("{error} {}", error.causes().join(" "));
        assert!(told.contains(&format!("user {id} and group {id} are no ids of a container here")), "{told}");
    }
    let secret = |uid| Mount::Secret { bytes: b"hush".to_vec(), target: "/key".into(), mode: 0o400, uid, gid: 0 };
    let cmd = ["/bin/stat", "-c", "%u", "/key"].map(String::from);
    let (code, lines) = place.run_job(Job { cmd: &cmd, mounts: &[secret(1_000_680_000)], ..job(&root) });
    assert_eq!((code, lines), (0, vec!["1000680000".to_string()]));
    let run = |job| runtime().block_on(place.sandbox.run(job, &mut |_: &str| {}));
    let error = run(Job { cmd: &cmd, mounts: &[secret(3_000_000_000)], ..job(&root) }).expect_err("no such id");
    assert!(error.causes().join(" ").contains("are no ids of a container here"), "{error}");
}
