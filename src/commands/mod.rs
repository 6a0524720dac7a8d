//! One file a verb.

pub mod audit;
pub mod channel;
pub mod compile;
pub mod completions;
pub mod diff;
pub mod doctor;
pub mod export;
pub mod flatten;
pub mod import;
pub mod init;
pub mod load;
pub mod lock;
pub mod outdated;
pub mod plan;
pub mod publish;
pub mod push;
pub mod repo;
pub mod run;
pub mod runtime;
pub mod serve;
pub mod update;
