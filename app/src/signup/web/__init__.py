"""The web pages: sign up, check your mail, confirm. They work without JavaScript."""
