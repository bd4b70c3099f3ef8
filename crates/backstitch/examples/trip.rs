//! A trip is booked whole or not at all: a flight, a hotel and a car, each a step that can be taken back.
//!
//! `trip Lisbon Venice` books these two and ends. `trip` alone works on what others ask for, until Ctrl-C.

use backstitch::{
    Attempt, Backward, Client, Compensate, Database, Ending, Flow, IdempotencyKey, Outcome, Recovery, Step,
    StepError, Steps, Worker, Workflow, WorkflowError, migrate,
};
use serde::{Deserialize, Serialize};

/// A workflow is what was asked for, and an async function over steps.
#[derive(Serialize, Deserialize)]
pub struct Trip {
    city: String,
}

impl Workflow<ToyAgency> for Trip {
    const KIND: &'static str = "trip";
    const RECOVERY: Recovery = Recovery::Compensate; // what a dead worker left half booked is taken back
    type Output = [String; 3];

    fn steps(steps: &mut Steps<ToyAgency>) {
        steps.step::<BookFlight>().step::<BookHotel>().step::<BookCar>();
    }

    async fn run(self, flow: &Flow<ToyAgency>) -> Result<[String; 3], WorkflowError> {
        let flight = flow.step(BookFlight { city: self.city.clone() }).await?;
        let hotel = flow.step(BookHotel { city: self.city.clone() }).await?;
        let car = flow.step(BookCar { city: self.city }).await?; // a `?` that fails takes back all before it
        Ok([flight, hotel, car])
    }
}

/// A step is a value: its fields are its journaled input. It runs, and it compensates; one that does not say how it is taken
/// back does not compile.
#[derive(Serialize, Deserialize)]
struct BookFlight {
    city: String,
}

impl Step<ToyAgency> for BookFlight {
    const NAME: &'static str = "book-flight";
    const BACKWARD: Backward<Self, ToyAgency> = Backward::independent();
    type Output = String;

    async fn run(&self, agency: &ToyAgency, attempt: &Attempt) -> Result<String, StepError> {
        agency.book("flight", &self.city, attempt.key())
    }
}

impl Compensate<ToyAgency> for BookFlight {
    async fn compensate(&self, agency: &ToyAgency, _: &Attempt, _: Outcome<String>) -> Result<(), StepError> {
        agency.cancel("flight", &self.city)
    }
}

#[derive(Serialize, Deserialize)]
struct BookHotel {
    city: String,
}

impl Step<ToyAgency> for BookHotel {
    const NAME: &'static str = "book-hotel";
    const BACKWARD: Backward<Self, ToyAgency> = Backward::independent();
    type Output = String;

    async fn run(&self, agency: &ToyAgency, attempt: &Attempt) -> Result<String, StepError> {
        agency.book("hotel", &self.city, attempt.key())
    }
}

impl Compensate<ToyAgency> for BookHotel {
    async fn compensate(&self, agency: &ToyAgency, _: &Attempt, _: Outcome<String>) -> Result<(), StepError> {
        agency.cancel("hotel", &self.city)
    }
}

#[derive(Serialize, Deserialize)]
struct BookCar {
    city: String,
}

impl Step<ToyAgency> for BookCar {
    const NAME: &'static str = "book-car";
    const BACKWARD: Backward<Self, ToyAgency> = Backward::independent();
    type Output = String;

    async fn run(&self, agency: &ToyAgency, attempt: &Attempt) -> Result<String, StepError> {
        agency.book("car", &self.city, attempt.key())
    }
}

impl Compensate<ToyAgency> for BookCar {
    async fn compensate(&self, agency: &ToyAgency, _: &Attempt, _: Outcome<String>) -> Result<(), StepError> {
        agency.cancel("car", &self.city)
    }
}

/// What the steps work with. Yours has the clients of real services; this one only says what it would do.
pub struct ToyAgency;

impl ToyAgency {
    /// The same on every try: a service that is handed the key can refuse to book twice.
    fn book(&self, what: &str, city: &str, key: IdempotencyKey) -> Result<String, StepError> {
        if (what, city) == ("car", "Venice") {
            // Not tried again, and believed that nothing happened.
            return Err(StepError::rejected("no_cars", "there are no cars in Venice"));
        }
        println!("  booked the {what} in {city}, under {key}");
        Ok(format!("{what} in {city}"))
    }

    /// Must succeed, too, where there is nothing to cancel.
    fn cancel(&self, what: &str, city: &str) -> Result<(), StepError> {
        println!("  cancelled the {what} in {city}");
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DATABASE_URL").map_err(|_| "set DATABASE_URL to a Postgres")?;
    run(&url, std::env::args().skip(1)).await
}

/// Books trips to these cities, else works until it is told to stop.
pub async fn run(url: &str, cities: impl Iterator<Item = String>) -> Result<(), Box<dyn std::error::Error>> {
    let database = Database::connect(url).await?;
    migrate(&database).await?;
    let worker = Worker::new(database.clone(), ToyAgency).serve::<Trip>().start().await?;

    let client = Client::new(database);
    let mut cities = cities.peekable();
    if cities.peek().is_none() {
        println!("working on trips, until Ctrl-C");
        tokio::signal::ctrl_c().await?;
    }
    for city in cities {
        println!("a trip to {city}:");
        let trip = client.enqueue(Trip { city }).send().await?;
        match client.wait(&trip).await? {
            Ending::Completed(booked) => println!("completed: {}", booked.join(", ")),
            Ending::Compensated(trip) => println!("compensated: {}; {}", trip.error, trip.report),
            Ending::NeedsAttention(trip) | Ending::Abandoned(trip) => println!("still owed: {}", trip.report),
        }
    }
    worker.shut_down().await;
    Ok(())
}
