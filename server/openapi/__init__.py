"""What the server answers, said for programs (`/openapi.json`) and for people (`/docs`); every route stands in `paths`."""
