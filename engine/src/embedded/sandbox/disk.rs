//! The disk that a container writes to is not its alone: some of it stays free.
//!
//! The kernel counts what a folder takes only where somebody has set up quotas, so the whole disk is watched, a few times
//! in the time that a fast one needs to fill what is to stay free.

use rustix::fs::{StatVfs, statvfs};
use std::path::Path;
use std::time::Duration;

/// What usually stays free, as far as a twentieth of the disk is more.
const FREE: u64 = 1 << 30;
const PAUSE: Duration = Duration::from_millis(100);

/// What is to stay free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Floor {
    bytes: u64,
    files: u64,
}

impl Floor {
    /// `wanted` bytes, or the usual, which of a disk that is almost full already is half of the rest.
    fn of(disk: &StatVfs, wanted: Option<u64>) -> Floor {
        let size = disk.f_blocks.saturating_mul(disk.f_frsize);
        Floor { bytes: wanted.unwrap_or(FREE.min(size / 20).min(free(disk) / 2)), files: (disk.f_files / 100).min(disk.f_favail / 2) }
    }

    fn is_reached(self, disk: &StatVfs) -> bool {
        free(disk) < self.bytes || disk.f_favail < self.files
    }
}

fn free(disk: &StatVfs) -> u64 {
    disk.f_bavail.saturating_mul(disk.f_frsize)
}

/// Waits until so much of the disk is used that a command has to end; says why. Without a folder, forever.
pub(super) async fn filled(folder: Option<&Path>, wanted: Option<u64>) -> String {
    let begun = folder.and_then(|folder| Some((folder, Floor::of(&statvfs(folder).ok()?, wanted))));
    let Some((folder, floor)) = begun else { return std::future::pending().await };
    loop {
        tokio::time::sleep(PAUSE).await;
        if let Ok(disk) = statvfs(folder)
            && floor.is_reached(&disk)
        {
            let (free, files) = (free(&disk) >> 20, disk.f_favail);
            return format!("{free} MiB and {files} files are free on the disk of {}, and others need them", folder.display());
        }
    }
}
