//! `[repository]`.

use super::text::shown;
use super::{Reader, RepositoryTable};
use crate::Result;
use crate::names::{check_channel_name, is_suite_name};
use crate::project::{At, RepositorySettings};
use serde_spanned::Spanned;
use std::net::SocketAddr;

/// Earlier states that a channel remembers, at most: each publish looks at all of them.
const MAX_KEEP: usize = 10_000;
/// Days that a snapshot stays, at most.
const MAX_DAYS: u32 = 36_500;

impl Reader<'_> {
    pub(super) fn repository(&self, raw: RepositoryTable) -> Result<RepositorySettings> {
        let channel = raw.channel.map_or(At { line: 1, value: "main".to_string() }, |channel| self.at(channel));
        check_channel_name(&channel.value).map_err(|cause| self.error(channel.line, &cause).hint(cause.hint_or_class()))?;
        let suite = raw.suite.map(|suite| self.at(suite));
        if let Some(suite) = suite.as_ref().filter(|suite| !is_suite_name(&suite.value)) {
            return Err(self
                .error(suite.line, format!("`{}` cannot be a suite's name", shown(&suite.value)))
                .hint("use lower-case letters, digits, hyphens and dots, at most 64, for instance bookworm or el9"));
        }
        let listen = raw.listen.map_or(At { line: 1, value: "127.0.0.1:8417".to_string() }, |listen| self.at(listen));
        if listen.value.parse::<SocketAddr>().is_err() {
            return Err(self
                .error(listen.line, format!("`{}` is not an address and port", shown(&listen.value)))
                .hint("write it like \"127.0.0.1:8417\""));
        }
        let keep = raw.keep.map(|keep| self.at(keep));
        if let Some(keep) = &keep {
            let wrong = |what: String, hint: String| Err(self.error(keep.line, what).hint(hint));
            match (keep.value.snapshots, keep.value.versions, keep.value.days) {
                (Some(snapshots), ..) if snapshots > MAX_KEEP => {
                    return wrong(
                        format!("a channel cannot keep {snapshots} earlier snapshots"),
                        format!("write a number from 0 to {MAX_KEEP}"),
                    );
                }
                (_, Some(0), _) => {
                    return wrong(
                        "`versions = 0` would leave no version of any package".into(),
                        "write how many versions of each package stay, 1 at least; without `versions` all do".into(),
                    );
                }
                (.., Some(days)) if days > MAX_DAYS => {
                    return wrong(format!("{days} days are more than a hundred years"), format!("write a number from 0 to {MAX_DAYS}"));
                }
                _ => {}
            }
        }
        let keep = keep.map(|keep| keep.value).unwrap_or_default();
        let valid_days = raw.valid_days.map(|days| self.at(days));
        if let Some(days) = valid_days.as_ref().filter(|days| !(1..=MAX_DAYS).contains(&days.value)) {
            return Err(self
                .error(days.line, format!("a release cannot be good for {} days", days.value))
                .hint(format!("write a number from 1 to {MAX_DAYS}; without `valid_days` it has no end")));
        }
        Ok(RepositorySettings {
            path: self.own_place(raw.path)?.unwrap_or_else(|| At { line: 1, value: ".twostage/repository".into() }),
            channel: channel.value,
            suite: suite.map(|suite| suite.value),
            key: self.own_place(raw.key)?,
            listen: listen.value,
            keep: keep.snapshots.unwrap_or(16),
            keep_versions: keep.versions,
            keep_days: keep.days.unwrap_or(0),
            valid_days: valid_days.map(|days| days.value),
            yum_compression: raw.yum_compression,
            key_type: raw.key_type,
        })
    }

    /// Where the project keeps its repository or its key.
    pub(super) fn own_place(&self, path: Option<Spanned<String>>) -> Result<Option<At<String>>> {
        let Some(path) = path.map(|path| self.at(path)) else { return Ok(None) };
        self.check_below(&path).map_err(|error| {
            error.hint(
                "write it relative to the project file; one elsewhere is named with --repository and --key, or in the environment \
                        by TWOSTAGE_REPOSITORY and TWOSTAGE_KEY",
            )
        })?;
        Ok(Some(path))
    }
}
