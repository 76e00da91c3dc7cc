//! The worker from outside: raw clients in front, scripted origins behind, each test on both drivers.

mod edge;
mod failures;
mod limits;
mod messages;
mod operations;
mod origin;
mod streams;
