//! Sockets of strangers, as those meet them who come from somewhere.

use crate::harness::options;
use crate::identity::socket;
use crate::site::{FIXED, Site};
use daybook_api::transport::{OriginPolicy, Sockets, StrangerLimits};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

type Socket = crate::identity::Socket;

/// A socket from an address, that says nothing.
async fn silent(site: &Site, address: &str) -> Result<Socket, (u16, Value)> {
    let mut request = format!("ws://{}/graphql", site.address).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().unwrap());
    request.headers_mut().insert("x-forwarded-for", address.parse().unwrap());
    match tokio_tungstenite::connect_async(request).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => {
            let body = response.body().as_deref().and_then(|body| serde_json::from_slice(body).ok());
            Err((response.status().as_u16(), body.unwrap_or_default()))
        }
        Err(other) => panic!("{other:?}"),
    }
}

/// Attack 27, from one address.
#[tokio::test]
async fn attack_27_one_address_takes_no_place_of_other_strangers() {
    let sockets = Sockets::new(100).strangers(StrangerLimits { sockets_max: 10, per_address_max: 2 });
    let site = Site::of(options(), OriginPolicy::SameHost, sockets.clone()).await;
    let flood = "192.0.2.1";
    let (mut first, mut second) = (silent(&site, flood).await.unwrap(), silent(&site, flood).await.unwrap());
    for _ in 0..20 {
        let (status, body) = silent(&site, flood).await.expect_err("it has as many as it may");
        assert_eq!(status, 429, "{body}");
    }
    assert_eq!(sockets.open(), 2);
    // Others come in, by the same address family or another.
    for other in ["192.0.2.2", "2001:db8::1"] {
        let mut other = silent(&site, other).await.expect("a place of its own");
        let init = json!({ "type": "connection_init", "payload": { "authorization": format!("Bearer {FIXED}") } });
        other.send(Message::text(init.to_string())).await.unwrap();
        assert!(other.next().await.unwrap().unwrap().to_text().unwrap().contains("connection_ack"));
    }
    // One that says who it is makes room for the next, and is not counted any more; one that goes, too.
    let init = json!({ "type": "connection_init", "payload": { "authorization": format!("Bearer {FIXED}") } });
    second.send(Message::text(init.to_string())).await.unwrap();
    assert!(second.next().await.unwrap().unwrap().to_text().unwrap().contains("connection_ack"));
    let third = silent(&site, flood).await.expect("there is room again");
    assert_eq!(silent(&site, flood).await.expect_err("and no more than that").0, 429);
    // When all places are taken, those of the flood are the first to go.
    let mut many = Vec::new();
    for n in 10..18 {
        many.push(silent(&site, &format!("192.0.2.{n}")).await.expect("a place"));
    }
    assert_eq!(sockets.open_of_strangers(), 10);
    let mut late = silent(&site, "198.51.100.1").await.expect("the place of one of the flood");
    assert_eq!(sockets.open_of_strangers(), 10);
    let first_ends = async { while let Some(Ok(_)) = first.next().await {} };
    tokio::time::timeout(crate::site::PATIENCE, first_ends).await.expect("the oldest of the flood is put out");
    late.send(Message::text(init.to_string())).await.unwrap();
    assert!(late.next().await.unwrap().unwrap().to_text().unwrap().contains("connection_ack"));
    drop((first, third, many));
    let since = std::time::Instant::now();
    while sockets.open_of_strangers() > 0 {
        assert!(since.elapsed() < crate::site::PATIENCE, "still open");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    socket(&site, FIXED).await;
}
