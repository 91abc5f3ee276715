//! What people ask: GraphQL over HTTP and WebSocket.
//!
//! This crate carries questions in and answers out. It decides nothing about the business and reads no table
//! itself: commands go to `app`, rows come from `projections`.

pub mod auth;
pub mod declared;
pub mod graphiql;
pub mod graphql;
pub mod health;
pub mod ingest;
pub mod metrics;
pub mod node;
pub mod openapi;
pub mod tokens;
pub mod transport;
