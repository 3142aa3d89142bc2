"""Speed, measured by hand: numbers from a shared machine are noise, so no test asserts them."""
