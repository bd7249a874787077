//! Sessions of clients: their slots, remembered answers, opens and intents.
