//! The worker process: one core's composition of `net`, `proto` and `policy`. State is `Rc`, not `Arc`.
//!
//! Reading order: [`worker`] (the process: orders in, reports out) -> [`executor`] (one core's life) -> [`connection`]
//! or [`h2`] -> [`downstream`] (what both give the walk) -> [`request`] (the walk) with its steps [`plan`], [`balance`],
//! [`exchange`], [`upload`], [`spooling`], [`body`], [`delivery`], [`tunnel`] -> [`reply`] (every failure's row). State: [`shared`]
//! (all cores), [`core`] (one). Beside the traffic: [`health`], [`report`]. What is not HTTP: [`tcp`], [`frp`]. Below
//! `/exapps/`: [`exapps`].

pub mod abuse;
pub mod ask;
pub mod balance;
pub mod body;
pub mod channel;
pub mod connection;
pub mod core;
pub mod delivery;
pub mod downstream;
pub mod exapps;
pub mod exchange;
pub mod executor;
pub mod frp;
pub mod h2;
pub mod health;
pub mod introduction;
pub mod page;
pub mod pairing;
pub mod parent;
pub mod plan;
pub mod queue;
pub mod record;
pub mod reply;
pub mod report;
pub mod request;
pub mod resolve;
pub mod shared;
pub mod sleepers;
pub mod spooling;
pub mod stamp;
pub mod tcp;
pub mod tunnel;
pub mod upload;
pub mod waiting;
pub mod worker;
