//! Serves the toy schema for the judges in `tests/js`: `cargo run -p daybook-api --example toy -- 127.0.0.1:4000`.
//! The token is `toy-token`.

#[path = "../tests/toy/mod.rs"]
mod toy;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4000".into()).parse()?;
    let mut limits = daybook_api::transport::Limits::default();
    // The judge waits for this one.
    limits.socket.init_timeout = std::time::Duration::from_secs(1);
    let server = toy::serve(toy::Setup { address, limits, ..toy::Setup::default() }).await?;
    println!("{} {}", server.url(), toy::TOKEN);
    tokio::signal::ctrl_c().await?;
    server.stop.send_replace(true);
    server.sockets.closed().await;
    Ok(())
}
