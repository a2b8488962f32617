"""Every history of a few events, in every order of arrival: its forms, its histories, its runs."""
