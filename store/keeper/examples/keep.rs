//! Keeps the private PostgreSQL of a data directory until the standard input ends:
//! `keep <data directory> [setting=value …]`. Starts the server again when it dies.

use std::error::Error;
use std::io::{self, Read};
use std::process::ExitCode;

use daybook_keeper::{Cluster, KeeperConfig};

#[tokio::main]
async fn main() -> ExitCode {
    match keep().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn keep() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut config = KeeperConfig::new(arguments.next().ok_or("usage: keep <data directory> [setting=value …]")?);
    for argument in arguments {
        let (name, value) = argument.split_once('=').ok_or("a setting is name=value")?;
        config.settings.push((name.into(), value.into()));
    }

    let mut cluster = Cluster::start(&config).await?;
    let mut end_of_input = tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new()));
    loop {
        println!("{} {} {}", cluster.pid(), cluster.port(), cluster.socket_dir().display());
        tokio::select! {
            _ = &mut end_of_input => break,
            how = cluster.exited() => {
                eprintln!("the server ended ({how}) and is started again");
                cluster.recover().await?;
            }
        }
    }
    cluster.stop().await?;
    Ok(())
}
