//! A TCP proxy between a service and a server, whose connections can be cut, stalled, or left half open.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::process::free_port;

/// Bytes that are passed on at once.
const BUFFER: usize = 64 << 10;

/// A server notices so late that a client is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// What happens to connections; those that are numbered below a limit are older than the fault.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    /// New connections are closed at once.
    refuses: bool,
    /// What is sent waits, in both directions.
    stalled: bool,
    /// Connections below this number are closed.
    cut_below: u64,
    /// What is sent on connections below this number is swallowed: the other end is gone and nobody was told.
    dead_below: u64,
}

/// How often a fault was felt.
#[derive(Debug, Default)]
struct Felt {
    connections: AtomicU64,
    refused: AtomicU64,
    cut: AtomicU64,
    stalled_bytes: AtomicU64,
    swallowed_bytes: AtomicU64,
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    weather: watch::Sender<Weather>,
    felt: Arc<Felt>,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Proxy {
    /// Passes everything on to a port of this machine.
    pub async fn start(to: u16) -> Result<Proxy, String> {
        let port = free_port()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| format!("proxy: {error}"))?;
        let (weather, _) = watch::channel(Weather::default());
        let felt = Arc::new(Felt::default());
        let (sender, counts) = (weather.clone(), felt.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let number = counts.connections.fetch_add(1, Ordering::Relaxed);
                if sender.borrow().refuses {
                    counts.refused.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else { continue };
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                tokio::spawn(pass_both(near, far, number, sender.subscribe(), counts.clone()));
            }
        });
        Ok(Proxy { port, weather, felt, accepting })
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes every connection; returns whether there was any. New ones are passed on.
    pub fn cut(&self) -> bool {
        let number = self.felt.connections.load(Ordering::Relaxed);
        self.weather.send_modify(|weather| weather.cut_below = number);
        number > 0
    }

    /// Closes every connection and takes no new ones.
    pub fn refuse(&self) {
        self.cut();
        self.weather.send_modify(|weather| weather.refuses = true);
    }

    /// Holds everything that is sent.
    pub fn stall(&self) {
        self.weather.send_modify(|weather| weather.stalled = true);
    }

    /// Every connection that there is loses its other end and is not told; new ones are passed on.
    pub fn half_open(&self) {
        let number = self.felt.connections.load(Ordering::Relaxed);
        self.weather.send_modify(|weather| weather.dead_below = number);
    }

    /// Everything is passed on again, and what was held arrives. What is half open stays so.
    pub fn heal(&self) {
        self.weather.send_modify(|weather| (weather.refuses, weather.stalled) = (false, false));
    }

    /// Connections that were closed or refused, and bytes that were held or swallowed: nobody has felt a fault while this
    /// does not grow.
    pub fn felt(&self) -> u64 {
        let felt = &self.felt;
        [&felt.refused, &felt.cut, &felt.stalled_bytes, &felt.swallowed_bytes].iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

async fn pass_both(mut near: TcpStream, mut far: TcpStream, number: u64, mut weather: watch::Receiver<Weather>, felt: Arc<Felt>) {
    let (mut watch_cut, mut watch_dead) = (weather.clone(), weather.clone());
    let ((near_read, near_write), (far_read, far_write)) = (near.split(), far.split());
    let cut = tokio::select! {
        () = pass(near_read, far_write, weather.clone(), &felt) => false,
        () = pass(far_read, near_write, weather.clone(), &felt) => false,
        () = until(&mut watch_cut, |weather| number < weather.cut_below) => true,
        () = until(&mut watch_dead, |weather| number < weather.dead_below) => {
            // the server finds out by its keep-alives; the service must find out by itself
            let server = async {
                let _ = tokio::time::timeout(KEEP_ALIVE, swallow(&mut far, &felt)).await;
                drop(far);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = swallow(&mut near, &felt) => {}
                () = server => {}
                () = until(&mut weather, |weather| number < weather.cut_below) => {}
            }
            true
        }
    };
    if cut {
        felt.cut.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns when the weather is so, or the proxy is gone.
async fn until(weather: &mut watch::Receiver<Weather>, wanted: impl Fn(&Weather) -> bool) {
    let _ = weather.wait_for(|weather| wanted(weather)).await;
}

/// Passes one direction on until it ends.
async fn pass(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut weather: watch::Receiver<Weather>, felt: &Felt) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or_default();
        if weather.borrow().stalled {
            felt.stalled_bytes.fetch_add(read as u64, Ordering::Relaxed);
            until(&mut weather, |weather| !weather.stalled).await;
        }
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Takes what is sent and passes nothing on, until the sender closes.
async fn swallow(near: &mut TcpStream, felt: &Felt) {
    let mut buffer = vec![0; BUFFER];
    loop {
        match near.read(&mut buffer).await.unwrap_or_default() {
            0 => return,
            read => drop(felt.swallowed_bytes.fetch_add(read as u64, Ordering::Relaxed)),
        }
    }
}
