//! What a container may have of the machine, and that nothing of that is left afterwards.

use super::*;
use twostage_engine::sandbox::Limits;

/// Groups that programs of this number have made.
fn groups(of: u32) -> Vec<PathBuf> {
    let name = format!("twostage-{of}-");
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        {
            if entry.file_name().to_string_lossy().starts_with(&name) {
                found.push(entry.path());
            }
            folders.push(entry.path());
        }
    }
    found
}

/// A sandbox with limits, where this machine has both.
fn limited(name: &str, limits: Limits) -> Option<Place> {
    let mut place = Place::new(name);
    if let Some(why) = place.sandbox.unlimited() {
        eprintln!("skipped: {why}");
        return None;
    }
    place.sandbox = place.sandbox.clone().with_limits(limits);
    Some(place)
}

#[test]
fn a_fork_bomb_ends_at_the_limit_of_processes() {
    let Some(place) = limited("bomb", Limits { processes: Some(64), ..Limits::default() }) else { return };
    let root = place.root();
    // Bounded, should there be no limit.
    let bomb = "n=0; while test $n -lt 300; do sleep 20 & n=$((n+1)); done; echo all";
    let (code, lines) = place.run(&root, bomb);
    assert_ne!(code, 0, "{lines:?}");
    assert!(!lines.contains(&"all".to_string()), "{lines:?}");
    let last = "twostage: the command asked for more than the 64 processes that it may have at once";
    assert_eq!(lines.last().map(String::as_str), Some(last), "{lines:?}");
    // What fits is not spoken of, and the next one may have as many.
    let fits = "n=0; while test $n -lt 40; do sleep 0.2 & n=$((n+1)); done; wait; exit 3";
    assert_eq!(place.run(&root, fits), (3, Vec::new()));
}

#[test]
fn memory_ends_at_its_limit() {
    let Some(place) = limited("memory", Limits { processes: Some(64), memory: Some(48 << 20), ..Limits::default() }) else { return };
    let root = place.root();
    // 100 MiB, should there be no limit.
    let (code, lines) = place.run(&root, "head -c 104857600 /dev/zero | tail -c 104857600 | wc -c; exit 5");
    assert_ne!(code, 0);
    let last = "twostage: the command needed more than the 48 MiB of memory that it may have, and was killed";
    assert_eq!(lines.last().map(String::as_str), Some(last), "{lines:?}");
    assert_eq!(place.says(&root, "head -c 4194304 /dev/zero | tail -c 4194304 | wc -c"), ["4194304"]);
}

#[test]
fn a_command_that_fills_the_disk_is_ended_before_it_is_full() {
    let mut place = Place::new("disk");
    let root = place.root();
    let disk = rustix::fs::statvfs(&place.dir).expect("a disk");
    let free = disk.f_bavail * disk.f_frsize;
    // Others write here, too: what is to stay free is more than they are likely to free meanwhile.
    let limits = Limits { free: Some(free - (256 << 20)), ..Limits::default() };
    place.sandbox = place.sandbox.clone().with_limits(limits);
    let cmd = ["sh", "-c", "dd if=/dev/zero of=/big bs=1048576 count=1024; sleep 1; echo all of it"].map(str::to_string);
    let mut lines = Vec::new();
    let ended = runtime().block_on(place.sandbox.run(Job { cmd: &cmd, ..job(&root) }, &mut |line| lines.push(line.to_string())));
    let error = ended.expect_err("it is ended");
    assert_eq!(error.to_string(), "sh filled the disk and was ended");
    assert!(error.causes().iter().any(|cause| cause.contains("MiB") && cause.contains("are free on the disk of")), "{error:?}");
    assert!(!lines.contains(&"all of it".to_string()), "{lines:?}");
}

#[test]
#[ignore = "the program that `a_group_is_removed_by_the_next_run_and_never_while_it_is_used` kills"]
fn to_be_killed_with_a_group() {
    let place = Place::new("group");
    let root = place.root();
    place.run(&root, "sleep 7654");
}

#[test]
fn a_group_is_removed_by_the_next_run_and_never_while_it_is_used() {
    let Some(place) = limited("groups-left", Limits::default()) else { return };
    let root = place.root();
    let own = std::env::current_exe().expect("this program");
    let start = || {
        let mut command = Command::new(&own);
        command.args(["--ignored", "--exact", "limits::to_be_killed_with_a_group", "--nocapture"]).stdout(std::process::Stdio::null());
        command.spawn().expect("this program runs")
    };
    let (mut killed, mut lives) = (start(), start());
    until("both run", || processes_of("7654").len() >= 2 && !groups(killed.id()).is_empty() && !groups(lives.id()).is_empty());
    killed.kill().expect("it can be killed");
    killed.wait().expect("it ends");
    until("what it ran ends", || processes_of("7654").len() == 1);
    place.says(&root, "true");
    assert_eq!(groups(killed.id()), [""; 0].map(PathBuf::from));
    assert!(!groups(lives.id()).is_empty());
    assert_eq!(processes_of("7654").len(), 1);
    lives.kill().expect("it can be killed");
    lives.wait().expect("it ends");
    until("what it ran ends", || processes_of("7654").is_empty());
    place.says(&root, "true");
    assert_eq!(groups(lives.id()), [""; 0].map(PathBuf::from));
    for gone in [killed.id(), lives.id()] {
        place.sandbox.remove(&std::env::temp_dir().join(format!("twostage-sandbox-{gone}-group"))).expect("what it left can be removed");
    }
}
