//! The ends of the broker: how a device connects, sends and hears, and how the collector does.

use super::{BrokerInbox, BrokerLink, BrokerUplink, CONNECT_MS, Due, closed, leaves, now};
use headwater_core::ports::{Delivery, Inbox, Link, LinkClosed, LinkEvent, Uplink};
use std::time::Duration;
use tokio::time::Instant;

/// The first entry whose time has come, or when the next one's will.
fn pop<T>(due: &mut Due<T>) -> Result<T, Option<Instant>> {
    match due.first_entry() {
        None => Err(None),
        Some(entry) if entry.key().0 <= now() => Ok(entry.remove()),
        Some(entry) => Err(Some(entry.key().0)),
    }
}

impl Uplink for BrokerUplink {
    type Link = BrokerLink;

    async fn connect(&mut self, ack_topic: &str) -> Result<BrokerLink, LinkClosed> {
        let ready = {
            let mut state = self.0.lock();
            let line = state.line(ack_topic);
            line.traffic.tries += 1;
            // Whoever connects anew has given up the old link.
            line.end();
            let (broken, delay) = (line.road.broken, line.road.delay_ms.clone());
            if broken { now() + Duration::from_millis(CONNECT_MS) } else { state.due(now(), &delay).0 }
        };
        tokio::time::sleep_until(ready).await;
        let mut state = self.0.lock();
        if state.line(ack_topic).road.broken {
            return Err(closed("no way to the simulated broker"));
        }
        if state.manners.away {
            return Err(closed("the simulated broker is away"));
        }
        state.links += 1;
        let (id, payload_bytes_max) = (state.links, state.manners.payload_bytes_max);
        let line = state.line(ack_topic);
        line.end();
        (line.link, line.since) = (Some(id), Some(now()));
        (line.up_free, line.down_free) = (None, None);
        line.traffic.links += 1;
        drop(state);
        Ok(BrokerLink { broker: self.0.clone(), name: ack_topic.to_owned(), id, next: 0, payload_bytes_max })
    }
}

impl Link for BrokerLink {
    fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    async fn send(&mut self, topic: &str, payload: Vec<u8>) -> Result<u64, LinkClosed> {
        if payload.len() > self.payload_bytes_max {
            return Err(closed("message above the broker's limit"));
        }
        let number = self.next;
        self.next += 1;
        let mut state = self.broker.lock();
        let manners = state.manners;
        let line = state.line(&self.name);
        if line.link != Some(self.id) {
            return Err(closed("cut"));
        }
        line.traffic.up += 1;
        line.traffic.up_bytes += payload.len() as u64;
        line.traffic.note(&payload);
        if line.hole || line.road.broken {
            line.traffic.lost += 1;
            return Ok(number);
        }
        let (rate, delay) = (line.road.bytes_per_s, line.road.delay_ms.clone());
        let at = leaves(&mut line.up_free, rate, payload.len());
        // What the broker closes on got through half of the time.
        if !manners.closes_on_publish || state.chance(500) {
            state.pass_on(&self.name, topic, &payload, at);
        }
        if manners.closes_on_publish {
            state.line(&self.name).end();
            drop(state);
            self.broker.0.news.notify_waiters();
            return Err(closed("the simulated broker closed on a publish"));
        }
        if !manners.never_acks {
            let due = state.due(at, &delay);
            state.line(&self.name).to_link.insert(due, LinkEvent::Sent(number));
        }
        drop(state);
        self.broker.0.news.notify_waiters();
        Ok(number)
    }

    async fn event(&mut self) -> Result<LinkEvent, LinkClosed> {
        let (id, name) = (self.id, self.name.clone());
        self.broker
            .wait(|state| {
                let line = state.line(&name);
                if line.link != Some(id) {
                    return Ok(Err(closed("cut")));
                }
                if line.hole || line.road.broken {
                    return Err(None);
                }
                pop(&mut line.to_link).map(Ok)
            })
            .await
    }
}

impl Drop for BrokerLink {
    fn drop(&mut self) {
        let mut state = self.broker.lock();
        let line = state.line(&self.name);
        if line.link == Some(self.id) {
            line.end();
        }
    }
}

impl Inbox for BrokerInbox {
    async fn next(&mut self) -> Delivery {
        let id = self.id;
        self.broker
            .wait(|state| {
                if state.inbox != id {
                    return Err(None);
                }
                let delivery = pop(&mut state.to_inbox)?;
                state.unsettled.insert(delivery.token, delivery.clone());
                Ok(delivery)
            })
            .await
    }

    async fn settle(&mut self, token: u64) {
        let mut state = self.broker.lock();
        if state.inbox == self.id {
            state.unsettled.remove(&token);
        }
    }

    async fn send(&mut self, topic: &str, payload: Vec<u8>) {
        self.broker.lock().send_down(topic, &payload);
        self.broker.0.news.notify_waiters();
    }
}
