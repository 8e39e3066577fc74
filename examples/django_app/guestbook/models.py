from django.db import models


class Entry(models.Model):
    name = models.CharField(max_length=60)
    message = models.TextField(max_length=500)
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.name}, {self.created:%Y-%m-%d}"
