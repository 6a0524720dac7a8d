//! A component's log: a file for whoever wants all of it, with the time in front of each line; the last lines for the
//! error; and where the time went.

use crate::Context;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use twostage_beneath::Folder;
use twostage_engine::LastLines;
use twostage_model::error::OrFail as _;
use twostage_model::{Class, Error, Result};

/// What a build is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// What it needs of the distribution and of the project is found and installed.
    Dependencies,
    /// The source is packed, unpacked and patched.
    Unpack,
    /// Its own tools work.
    Build,
    /// What it left is checked and published.
    Collect,
}

impl Phase {
    const ALL: [Phase; 4] = [Phase::Dependencies, Phase::Unpack, Phase::Build, Phase::Collect];

    fn word(self) -> &'static str {
        match self {
            Phase::Dependencies => "dependencies",
            Phase::Unpack => "unpack",
            Phase::Build => "build",
            Phase::Collect => "collect",
        }
    }
}

/// How a line of our scripts begins that says what comes now. (A build that says it, too, deceives nobody but whoever reads
/// where its time went.)
const MARK: &str = "twostage: phase ";
/// How a line begins that says how many of all compilations a cache spared: `3 of 4`.
const CCACHE: &str = "twostage: ccache ";
/// Time of a phase that is worth a word.
const WORTH_A_WORD: Duration = Duration::from_millis(50);

/// A component's log.
pub(crate) struct Log {
    shown: PathBuf,
    file: fs::File,
    last: LastLines,
    start: Instant,
    times: PhaseTimes,
    spared: Option<(u32, u32)>,
}

/// How long each phase took until now.
struct PhaseTimes {
    spent: [Duration; Phase::ALL.len()],
    phase: Phase,
    since: Duration,
}

impl PhaseTimes {
    fn new() -> PhaseTimes {
        PhaseTimes { spent: Default::default(), phase: Phase::Dependencies, since: Duration::ZERO }
    }

    /// `now`: since the start.
    fn begin(&mut self, phase: Phase, now: Duration) {
        if let Some(spent) = Phase::ALL.iter().position(|known| *known == self.phase).and_then(|at| self.spent.get_mut(at)) {
            *spent += now.saturating_sub(self.since);
        }
        (self.phase, self.since) = (phase, now);
    }

    fn summary(&self) -> String {
        let worth = Phase::ALL.iter().zip(self.spent).filter(|(_, spent)| *spent >= WORTH_A_WORD);
        worth.map(|(phase, spent)| format!("{} {:.1} s", phase.word(), spent.as_secs_f64())).collect::<Vec<_>>().join(", ")
    }
}

impl Log {
    /// Of a component whose work began at `start`.
    ///
    /// # Errors
    /// Nothing can be written there.
    pub(crate) fn create(context: &Context, name: &str, start: Instant) -> Result<Log> {
        let folder = Folder::open(&context.state)?.make_folder("logs")?;
        let path = folder.path().join(format!("{name}.log"));
        let file = log_file(&folder, name).or_fail(Class::System, || format!("cannot write {}", path.display()))?;
        let shown = path.strip_prefix(&context.folder).unwrap_or(&path).to_path_buf();
        Ok(Log { shown, file, last: LastLines::default(), start, times: PhaseTimes::new(), spared: None })
    }

    pub(crate) fn line(&mut self, line: &str) {
        // A full disk must not end the build that a larger one could still finish.
        let _ = writeln!(self.file, "{} {line}", elapsed(self.start.elapsed()));
        let mark = line.strip_prefix(MARK).and_then(|word| Phase::ALL.into_iter().find(|phase| phase.word() == word));
        if let Some((hits, all)) = line.strip_prefix(CCACHE).and_then(|rest| rest.split_once(" of ")) {
            self.spared = hits.parse().ok().zip(all.parse().ok());
        }
        match mark {
            Some(phase) => self.begin(phase),
            None => self.last.push(line),
        }
    }

    /// What comes now.
    pub(crate) fn begin(&mut self, phase: Phase) {
        self.times.begin(phase, self.start.elapsed());
    }

    /// Where the time went until now: `dependencies 12.1 s, build 3.0 s, ccache 3 of 4`.
    pub(crate) fn summary(&mut self) -> String {
        let phase = self.times.phase;
        self.begin(phase);
        let spared = self.spared.map(|(hits, all)| format!("ccache {hits} of {all}"));
        std::iter::once(self.times.summary()).filter(|times| !times.is_empty()).chain(spared).collect::<Vec<_>>().join(", ")
    }

    /// The last lines.
    pub(crate) fn last(&self) -> String {
        self.last.text(3)
    }

    pub(crate) fn failure(&self, name: &str, what: &str) -> Error {
        Error::new(Class::Build, format!("{name}: {what}")).because(self.last.text(20)).hint(self.hint())
    }

    pub(crate) fn not_taken(&self, what: String, cause: Error) -> Error {
        let hint = cause.hint_text().map_or_else(|| self.hint(), String::from);
        Error::new(Class::Build, what).because(cause).hint(hint)
    }

    fn hint(&self) -> String {
        format!("the whole log is in {}", self.shown.display())
    }
}

/// Minutes and seconds since the start.
fn elapsed(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("T+{:02}:{:02}", seconds / 60, seconds % 60)
}

/// An empty file for a log. What had its name is not written to: it could be a link that somebody else made.
fn log_file(folder: &Folder, name: &str) -> std::io::Result<fs::File> {
    use rustix::fs::{AtFlags, Mode, OFlags};
    let name = format!("{name}.log");
    match rustix::fs::unlinkat(folder, &name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(cause) => return Err(cause.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, &name, flags, Mode::from_raw_mode(0o644)).map(fs::File::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_a_new_file_whatever_had_its_name() {
        let place = tempfile::tempdir().expect("a folder");
        let path = |name: &str| place.path().join(name);
        fs::create_dir(path("logs")).expect("a folder");
        fs::write(path("precious"), "kept").expect("a file");
        let logs = Folder::open(&path("logs")).expect("a folder");
        for _ in 0..2 {
            std::os::unix::fs::symlink("../precious", path("logs/demo.log")).expect("a link");
            log_file(&logs, "demo").and_then(|mut log| log.write_all(b"log")).expect("a log");
            assert_eq!(fs::read_to_string(path("precious")).expect("it is there"), "kept");
            assert_eq!(fs::read_to_string(path("logs/demo.log")).expect("the log"), "log");
            fs::remove_file(path("logs/demo.log")).expect("it goes");
        }
    }

    #[test]
    fn the_time_of_a_phase_is_told_whenever_it_comes() {
        let mut times = PhaseTimes::new();
        let at = Duration::from_millis;
        for (phase, now) in [(Phase::Unpack, 1500), (Phase::Dependencies, 1540), (Phase::Build, 2540), (Phase::Collect, 62_540)] {
            times.begin(phase, at(now));
        }
        assert_eq!(times.summary(), "dependencies 2.5 s, build 60.0 s");
        times.begin(Phase::Collect, at(62_690));
        assert_eq!(times.summary(), "dependencies 2.5 s, build 60.0 s, collect 0.1 s");
        assert_eq!((elapsed(at(61_999)), elapsed(Duration::from_secs(7200))), ("T+01:01".into(), "T+120:00".into()));
    }

    #[test]
    fn a_line_has_its_time_and_a_mark_is_none_of_the_last_lines() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(place.path()).expect("a folder");
        let file = log_file(&folder, "demo").expect("a log");
        let mut log = Log {
            shown: "demo.log".into(),
            file,
            last: LastLines::default(),
            start: Instant::now(),
            times: PhaseTimes::new(),
            spared: None,
        };
        ["one", "twostage: phase build", "twostage: phase nothing"].iter().for_each(|line| log.line(line));
        assert_eq!(log.times.phase, Phase::Build);
        let error = log.failure("demo", "failed");
        assert_eq!(error.causes(), ["one\ntwostage: phase nothing"]);
        let text = fs::read_to_string(place.path().join("demo.log")).expect("the log");
        assert!(text.starts_with("T+00:0") && text.contains(" one\nT+00:0") && text.contains(" twostage: phase build\n"), "{text}");
    }
}
