//! One file a verb.

pub mod audit;
pub mod channel;
pub mod compile;
pub mod completions;
pub mod diff;
pub mod doctor;
pub mod export;
pub mod flatten;
pub mod images;
pub mod import;
pub mod import_image;
pub mod init;
pub mod load;
pub mod lock;
pub mod outdated;
pub mod plan;
pub mod prune;
pub mod publish;
pub mod push;
pub mod repo;
pub mod rm;
pub mod run;
pub mod runtime;
pub mod serve;
pub mod tag;
pub mod update;
