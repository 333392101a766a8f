//! A TCP proxy between two processes of a run: a bad link, switched while it is in use.
//!
//! It slows down, delays, cuts, swallows or refuses, and counts what passes. It listens on loopback only and ends
//! with its owner. Buffers are small, so that a slow link is felt by whoever writes and not hidden by the kernel.

mod conditions;
#[cfg(test)]
mod tests;

pub use conditions::{Conditions, Counts, Cuts, Mode, Random};

use crate::ticks::now;
use conditions::Bucket;
use socket2::{Domain, Socket, Type};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Kernel buffers of each socket: small beside a message.
const BUFFER_BYTES: usize = 16 << 10;
/// Read at once on a link that is not slow.
const CHUNK_BYTES: usize = 16 << 10;
/// Least read at once on a slow one.
const CHUNK_BYTES_MIN: u64 = 256;
/// Chunks a second of a slow link.
const CHUNKS_PER_S: u64 = 50;
/// Bytes that a delayed link holds in each direction.
const DELAYED_BYTES_MAX: usize = 4 << 20;
/// How soon a pump that hears nothing looks for the end and for another mode.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    mode: Mutex<(u64, Mode)>,
    random: Mutex<Random>,
    buckets: [Mutex<Bucket>; 2],
    up_bytes: AtomicU64,
    down_bytes: AtomicU64,
    connections: AtomicU64,
    cuts: AtomicU64,
    swallowed_bytes: AtomicU64,
    over: AtomicBool,
    live: Mutex<Vec<Arc<Connection>>>,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// Swallowed something: a half-open connection.
    dead: AtomicBool,
    closed: AtomicBool,
    /// Mode number the cut was drawn under, and bytes left until it.
    cut: Mutex<(u64, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The proxy; dropping it ends it and all its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a free loopback port and passes everything to `target`.
    ///
    /// # Errors
    /// What the system says, or a target that is no address.
    pub fn start(target: &str, seed: u64) -> io::Result<Self> {
        let target = target.parse().map_err(io::Error::other)?;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // Before it listens: connections inherit it.
        socket.set_recv_buffer_size(BUFFER_BYTES)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.listen(64)?;
        let listener = TcpListener::from(socket);
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            mode: Mutex::new((0, Mode::Open(Conditions::default()))),
            random: Mutex::new(Random::new(seed)),
            buckets: Default::default(),
            up_bytes: AtomicU64::new(0),
            down_bytes: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            swallowed_bytes: AtomicU64::new(0),
            over: AtomicBool::new(false),
            live: Mutex::new(Vec::new()),
        });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self { address, shared, acceptor: Some(acceptor) })
    }

    /// Where it listens, `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What the link is from now on, for connections that stand as well.
    pub fn set(&self, mode: Mode) {
        {
            let mut current = locked(&self.shared.mode);
            *current = (current.0 + 1, mode);
        }
        if mode == Mode::Refuse {
            self.cut();
        }
    }

    /// Cuts all connections that stand.
    pub fn cut(&self) {
        for connection in locked(&self.shared.live).drain(..) {
            connection.cut(&self.shared.cuts);
        }
    }

    /// What passed so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            up_bytes: of(&self.shared.up_bytes),
            down_bytes: of(&self.shared.down_bytes),
            connections: of(&self.shared.connections),
            cuts: of(&self.shared.cuts),
            swallowed_bytes: of(&self.shared.swallowed_bytes),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the acceptor, which then sees that it is over.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

impl Connection {
    /// Closes both ends.
    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.shut();
    }

    /// Closes both ends if they are open, and counts that: before anyone can see it.
    fn cut(&self, cuts: &AtomicU64) {
        if !self.closed.swap(true, Ordering::Relaxed) {
            cuts.fetch_add(1, Ordering::Relaxed);
        }
        self.shut();
    }

    fn shut(&self) {
        for socket in [&self.client, &self.server] {
            // Whoever closed it first, it is closed.
            drop(socket.shutdown(Shutdown::Both));
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut pumps: Vec<JoinHandle<()>> = Vec::new();
    for client in listener.incoming() {
        if shared.over.load(Ordering::Relaxed) {
            break;
        }
        let Ok(client) = client else { continue };
        shared.connections.fetch_add(1, Ordering::Relaxed);
        if locked(&shared.mode).1 == Mode::Refuse {
            continue;
        }
        // A target that is away closes the client's connection, as its own port would.
        let Ok(connection) = connect(client, shared.target) else { continue };
        let connection = Arc::new(connection);
        {
            let mut live = locked(&shared.live);
            live.retain(|other| !other.closed.load(Ordering::Relaxed));
            live.push(Arc::clone(&connection));
        }
        pumps.retain(|pump| !pump.is_finished());
        for way in [Way::Up, Way::Down] {
            let (shared, connection) = (Arc::clone(shared), Arc::clone(&connection));
            pumps.push(std::thread::spawn(move || pump(&shared, &connection, way)));
        }
    }
    for connection in locked(&shared.live).drain(..) {
        connection.close();
    }
    pumps.into_iter().for_each(|pump| drop(pump.join()));
}

fn connect(client: TcpStream, target: SocketAddr) -> io::Result<Connection> {
    let server = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    server.set_recv_buffer_size(BUFFER_BYTES)?;
    server.set_send_buffer_size(BUFFER_BYTES)?;
    server.connect(&target.into())?;
    socket2::SockRef::from(&client).set_send_buffer_size(BUFFER_BYTES)?;
    let server = TcpStream::from(server);
    for socket in [&client, &server] {
        socket.set_nodelay(true)?;
    }
    let (dead, closed) = (AtomicBool::new(false), AtomicBool::new(false));
    Ok(Connection { client, server, dead, closed, cut: Mutex::new((u64::MAX, u64::MAX)) })
}

/// Moves bytes one way until the connection is over.
fn pump(shared: &Shared, connection: &Connection, way: Way) {
    let ended = match way {
        Way::Up => carry(shared, connection, way, &connection.client, &connection.server),
        Way::Down => carry(shared, connection, way, &connection.server, &connection.client),
    };
    // Of a half-open connection neither side hears that the other is gone.
    if !(ended.is_ok() && connection.dead.load(Ordering::Relaxed)) {
        connection.close();
    }
}

fn carry(
    shared: &Shared,
    connection: &Connection,
    way: Way,
    mut from: &TcpStream,
    mut to: &TcpStream,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut delayed: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut delayed_bytes = 0;
    loop {
        while delayed.front().is_some_and(|(due, _)| *due <= now()) {
            if let Some((_, chunk)) = delayed.pop_front() {
                delayed_bytes -= chunk.len();
                to.write_all(&chunk)?;
            }
        }
        let due = delayed.front().map(|(due, _)| due.saturating_duration_since(now()));
        let wait = due.unwrap_or(LOOK).clamp(Duration::from_millis(1), LOOK);
        if delayed_bytes > DELAYED_BYTES_MAX {
            std::thread::sleep(wait);
            continue;
        }
        let (_, mode) = *locked(&shared.mode);
        let conditions = match mode {
            Mode::Open(conditions) => conditions,
            Mode::Silent | Mode::Refuse => Conditions::default(),
        };
        from.set_read_timeout(Some(wait))?;
        let most = chunk_bytes(conditions.rate).min(buffer.len());
        let n = match from.read(buffer.get_mut(..most).unwrap_or_default()) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if shared.over.load(Ordering::Relaxed) {
                    return Err(error);
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        let chunk = buffer.get(..n).unwrap_or_default();
        if locked(&shared.mode).1 == Mode::Silent {
            connection.dead.store(true, Ordering::Relaxed);
        }
        if connection.dead.load(Ordering::Relaxed) {
            shared.swallowed_bytes.fetch_add(n as u64, Ordering::Relaxed);
            continue;
        }
        if let Some(rate) = conditions.rate {
            let free = locked(&shared.buckets[usize::from(way == Way::Down)]).pass(now(), n, rate);
            std::thread::sleep(free.saturating_duration_since(now()));
        }
        let counter = if way == Way::Up { &shared.up_bytes } else { &shared.down_bytes };
        counter.fetch_add(n as u64, Ordering::Relaxed);
        match conditions.delay {
            Some(delay) => {
                delayed_bytes += n;
                delayed.push_back((now() + delay, chunk.to_vec()));
            }
            None => to.write_all(chunk)?,
        }
        if is_cut(shared, connection, n as u64) {
            connection.cut(&shared.cuts);
            return Err(ErrorKind::ConnectionReset.into());
        }
    }
}

fn chunk_bytes(rate: Option<u64>) -> usize {
    let bytes = rate.map_or(CHUNK_BYTES as u64, |rate| (rate / CHUNKS_PER_S).max(CHUNK_BYTES_MIN));
    usize::try_from(bytes).unwrap_or(CHUNK_BYTES)
}

/// Counts bytes towards the connection's cut; true if they reach it.
fn is_cut(shared: &Shared, connection: &Connection, bytes: u64) -> bool {
    let (number, mode) = *locked(&shared.mode);
    let Mode::Open(Conditions { cuts: Some(cuts), .. }) = mode else { return false };
    let mut cut = locked(&connection.cut);
    if cut.0 != number {
        *cut = (number, cuts.draw(&mut locked(&shared.random)));
    }
    cut.1 = cut.1.saturating_sub(bytes);
    cut.1 == 0
}
