//! `[repository]`.

use super::text::shown;
use super::{Reader, RepositoryTable};
use crate::Result;
use crate::names::check_channel_name;
use crate::project::{At, RepositorySettings};
use serde_spanned::Spanned;
use std::net::SocketAddr;

/// Earlier states that a channel remembers, at most: each publish looks at all of them.
const MAX_KEEP: usize = 10_000;

impl Reader<'_> {
    pub(super) fn repository(&self, raw: RepositoryTable) -> Result<RepositorySettings> {
        let channel = raw.channel.map_or(At { line: 1, value: "main".to_string() }, |channel| self.at(channel));
        check_channel_name(&channel.value).map_err(|cause| self.error(channel.line, &cause).hint(cause.hint_or_class()))?;
        let listen = raw.listen.map_or(At { line: 1, value: "127.0.0.1:8417".to_string() }, |listen| self.at(listen));
        // (Port 0 would be another one each time, which no client's source could name.)
        if !listen.value.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0) {
            return Err(self
                .error(listen.line, format!("`{}` is not an address and port", shown(&listen.value)))
                .hint("write it like \"127.0.0.1:8417\""));
        }
        let keep = raw.keep.map(|keep| self.at(keep));
        if let Some(keep) = keep.as_ref().filter(|keep| keep.value > MAX_KEEP) {
            return Err(self
                .error(keep.line, format!("a channel cannot keep {} earlier snapshots", keep.value))
                .hint(format!("write a number from 0 to {MAX_KEEP}")));
        }
        Ok(RepositorySettings {
            path: self.own_place(raw.path)?.unwrap_or_else(|| At { line: 1, value: ".twostage/repository".into() }),
            channel: channel.value,
            key: self.own_place(raw.key)?,
            listen: listen.value,
            keep: keep.map_or(16, |keep| keep.value),
            yum_compression: raw.yum_compression,
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
