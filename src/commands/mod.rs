//! One file a verb.

pub mod audit;
pub mod channel;
pub mod completions;
pub mod export;
pub mod import;
pub mod init;
pub mod lock;
pub mod outdated;
pub mod publish;
pub mod repo;
pub mod runtime;
pub mod serve;
pub mod update;
