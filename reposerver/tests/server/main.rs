//! The repository and its server, judged by real clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod apt;
mod clock;
mod common;
mod connections;
mod damage;
mod http;
mod killed;
mod life;
mod many;
mod model;
mod requests;
mod sign;
mod store;
mod yum;
mod yum_oracle;
