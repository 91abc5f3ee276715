//! `daybook serve`

use crate::config::{Serving, Settled};
use crate::exit::Failure;
use crate::server::{Server, interrupted};
use clap::Args;
use std::io::Write;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    pub serving: Serving,
}

pub async fn run(settled: Settled, arguments: &Arguments) -> Result<(), Failure> {
    let server = Server::start(&settled, &arguments.serving, &[]).await?;
    println!("Daybook listens on http://{}/graphql", server.listen);
    println!("Data is in {}", settled.data_dir.display());
    // Whoever reads it may be a program that waits for it.
    let _ = std::io::stdout().flush();
    interrupted().await;
    server.stop().await
}
