"""`python3 -m dynamo.frontend` is `pixii frontend`."""
